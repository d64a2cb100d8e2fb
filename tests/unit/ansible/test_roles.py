"""The roles: variables are documented, templates are what the components read."""

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from hypothesis import given, settings
from hypothesis import strategies as st

from slurmlet.broker.config import Broker
from slurmlet.contracts.codec import decode
from slurmlet.contracts.identity import parse_identity_map
from slurmlet.contracts.names import POLICY_FILE
from slurmlet.contracts.site import Cluster
from slurmlet.controlplane import config as controlplane
from slurmlet.kubelet.config import Kubelet, problems, virtual_nodes
from slurmlet.scheduler.config import SchedulerConfig
from slurmlet.spank.config import Settings as Sandbox
from slurmlet.supervisor.config import Supervisor
from slurmlet.webhook import __main__ as webhook_command
from slurmlet.webhook.config import WebhookConfig

ROLES = Path(__file__).parents[3] / "ansible" / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())
TABLES = {
    "cluster": Cluster,
    "broker": Broker,
    "kubelet": Kubelet,
    "sandbox": Sandbox,
    "scheduler": SchedulerConfig,
    "supervisor": Supervisor,
    "webhook": WebhookConfig,
}


NODE = {"subids": "0123", "spool_dir": "/var/spool/slurmd"}
"""What inspecting a node finds, as far as the configuration wants it."""


RANGES = {"c1": "10.78.1.0/24", "c2": "10.78.2.0/24"}

NETWORKS = {
    name: json.dumps(
        {
            "address": address,
            "mtu": 1450,
            "forwards": name in RANGES,
            "nameservers": ["127.0.0.53", "10.77.0.1"],
        }
    )
    for name, address in {
        "ctl": "10.77.0.1",
        "login": "10.77.0.2",
        "c1": "10.77.0.11",
        "c2": "10.77.0.12",
    }.items()
}
"""The same of its network."""


@pytest.fixture(scope="session", autouse=True)
def _plugins() -> None:
    init_plugin_loader()


@cache
def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else {}


@cache
def settings_variables() -> dict[str, Any]:
    defaults = load(ROLES / "settings/defaults/main.yml") | load(ROLES / "settings/vars/main.yml")
    own = {
        "inventory_hostname": "ctl",
        "groups": {"slurmlet_control": ["ctl"], "slurmlet_compute": ["c1", "c2"]},
        "slurmlet_address": "10.77.0.1",
        "ansible_managed": "Ansible managed",
        "__slurmlet_inspection": {"stdout": json.dumps(NODE)},
        "__slurmlet_network_inspection": {"stdout": NETWORKS["ctl"]},
        "hostvars": hostvars(RANGES),
    }
    found: dict[str, Any] = trusted(defaults | own)
    return found


def hostvars(ranges: Mapping[str, str]) -> dict[str, Any]:
    """Of two compute hosts, each with the range of pods that the inventory gives it, if any."""
    return {
        name: {
            "inventory_hostname": name,
            "__slurmlet_inspection": {"stdout": json.dumps(NODE)},
            "__slurmlet_network_inspection": {"stdout": NETWORKS[name]},
            **({"slurmlet_pod_cidr": ranges[name]} if name in ranges else {}),
        }
        for name in ("c1", "c2")
    }


def on(host: str, **changes: Any) -> dict[str, Any]:
    """Variables of a host."""
    found = {"stdout": NETWORKS[host]}
    return {"inventory_hostname": host, "__slurmlet_network_inspection": found, **changes}


def trusted(value: Any) -> Any:
    """What Ansible does to values that come from a playbook: their templates may be rendered."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    return [trusted(item) for item in value] if isinstance(value, list) else value


def render(template: str, variables: Mapping[str, Any]) -> str:
    """Renders as the module template does, with the variables of the role settings too."""
    own = load(ROLES / template.split("/", maxsplit=1)[0] / "vars/main.yml")
    known = settings_variables() | trusted(own) | dict(variables)
    templar = Templar(loader=DataLoader(), variables=known)
    text = trusted((ROLES / template).read_text())
    return str(templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True}))


@pytest.mark.parametrize("role", NAMES)
def test_every_role_says_its_arguments_and_stands_on_settings(role: str) -> None:
    specs = load(ROLES / role / "meta/argument_specs.yml")["argument_specs"]
    assert specs["main"]["short_description"]
    depends = load(ROLES / role / "meta/main.yml")["dependencies"]
    assert role == "settings" or depends == [{"role": "slurmlet.hpc.settings"}]


def test_defaults_are_those_that_the_argument_specs_tell() -> None:
    entries = [
        entry
        for path in ROLES.glob("*/meta/argument_specs.yml")
        for entry in load(path)["argument_specs"].values()
    ]
    specs = {name: spec for entry in entries for name, spec in entry.get("options", {}).items()}
    defaults: dict[str, Any] = {}
    for path in ROLES.glob("*/defaults/main.yml"):
        defaults |= load(path)
    assert {name for name, spec in specs.items() if not spec.get("required")} == set(defaults)
    told = {name: spec["default"] for name, spec in specs.items() if "default" in spec}
    computed = {name for name, value in defaults.items() if "{{" in str(value)}
    assert told == {name: value for name, value in defaults.items() if name not in computed}


def test_only_builtin_modules_and_our_roles_are_used() -> None:
    known = {"name", "vars", "when", "loop", "loop_control", "register", "until", "retries"}
    known |= {"delay", "changed_when", "failed_when", "check_mode", "diff", "run_once"}
    known |= {"delegate_to", "block"}
    for path in ROLES.glob("*/tasks/*.yml"):
        tasks = list(load(path))
        tasks += [inner for task in tasks for inner in task.get("block", [])]
        for task in tasks:
            for module in task.keys() - known:
                assert module.startswith("ansible.builtin."), f"{path}: {module}"


@pytest.mark.parametrize("host", ["ctl", "c1"])
def test_every_component_accepts_the_configuration_that_is_written(host: str) -> None:
    text = render("common/templates/slurmlet.toml.j2", on(host))
    tables = tomllib.loads(text)
    wanted = (
        set(TABLES) | {"controlplane"} if host == "ctl" else {"cluster", "sandbox", "supervisor"}
    )
    assert set(tables) == wanted
    for name in wanted & set(TABLES):
        config: Any = decode(TABLES[name], tables[name], path=name)
        assert not isinstance(config, Kubelet) or problems(config) == []
    if host == "ctl":
        controlplane.parse(tables["controlplane"])


def test_settings_of_the_site_are_added_and_replace_ours() -> None:
    site = {
        "controlplane": {"etcd_fsync": False, "secure_port": 7443},
        "request": {"default_memory": 512},
        "cluster": {"name": "other"},
    }
    tables = tomllib.loads(render("common/templates/slurmlet.toml.j2", {"slurmlet_settings": site}))
    assert tables["controlplane"]["etcd_fsync"] is False
    assert tables["controlplane"]["advertise_address"] == "10.77.0.1"
    assert tables["cluster"]["name"] == "other"
    assert tables["scheduler"]["server"] == "https://10.77.0.1:7443"
    # The webhook learns it from the agent.
    assert tables["kubelet"]["request"] == {"default_memory": 512}
    assert "request" not in tables


_values = st.recursive(
    st.booleans()
    | st.integers(-(2**31), 2**31)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(st.text("ab\"'\\\n", max_size=3), max_size=3)
        | st.dictionaries(st.text("ab.\"'\n", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text("abc_-", min_size=1, max_size=5), _values, max_size=4))
def test_any_table_survives_toml(table: dict[str, Any]) -> None:
    variables = {"__slurmlet_node_tables": {"t": table}}
    assert tomllib.loads(render("common/templates/slurmlet.toml.j2", variables))["t"] == table


def test_the_identity_map_is_as_given() -> None:
    given = {
        "alice": {"user": "alice", "accounts": ["phys"], "partitions": ["cpu", "debug"]},
        "ml-*": {"user": "mlsvc", "sharedTrust": True},
    }
    text = render("common/templates/identity.toml.j2", {"slurmlet_namespaces": given})
    identities = parse_identity_map(tomllib.loads(text))
    assert identities.default == "deny"
    assert identities.lookup("ml-7").sharedTrust
    assert identities.lookup("alice").partitions == ("cpu", "debug")
    assert identities.lookup("alice").accounts == ("phys",)


def test_each_named_namespace_gets_its_users_rights_and_a_glob_none() -> None:
    given = {"alice": {"user": "al"}, "ml-*": {"user": "mlsvc"}}
    text = render("users/templates/namespaces.yaml.j2", {"slurmlet_namespaces": given})
    items = [item for item in yaml.safe_load_all(text) if item]
    (namespace,) = [item for item in items if item["kind"] == "Namespace"]
    (binding,) = [item for item in items if item["kind"] == "RoleBinding"]
    assert namespace["metadata"]["name"] == "alice"
    assert binding["metadata"]["namespace"] == "alice"
    assert binding["roleRef"]["name"] == "edit"
    assert binding["subjects"] == [
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "al"}
    ]


def test_each_node_has_routes_to_the_pods_of_all_others_and_to_its_own_only_where_they_are() -> (
    None
):
    def routes(host: str, **changes: Any) -> list[str]:
        text = render("network/templates/slurmlet-routes.service.j2", on(host, **changes))
        lines = [line.split("=", 1) for line in text.splitlines() if "=" in line]
        return [value for name, value in lines if name == "StandardInputText"]

    to_c1 = "route replace 10.78.1.0/24 via 10.77.0.11 protocol 78"
    to_c2 = "route replace 10.78.2.0/24 via 10.77.0.12 protocol 78"
    assert routes("ctl") == routes("login") == [to_c1, to_c2]
    assert routes("c1") == ["route replace unreachable 10.78.1.0/24 protocol 78", to_c2]
    assert routes("c1", slurmlet_cni_config="site") == [to_c2]
    assert routes("c1", slurmlet_pod_routes=False) == []


def test_the_cni_configuration_gives_the_nodes_own_range_and_keeps_its_leases_until_a_boot() -> (
    None
):
    conf = json.loads(render("network/templates/conflist.j2", on("c2")))
    (plugin,) = conf["plugins"]
    assert (plugin["type"], plugin["mtu"], plugin["ipMasq"]) == ("ptp", 1450, False)
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.78.2.0/24"}]]
    assert plugin["ipam"]["dataDir"].startswith("/run/")


def test_pods_have_a_network_only_where_the_inventory_gives_them_addresses() -> None:
    def network(**changes: Any) -> tuple[dict[str, Any], bool]:
        text = render("common/templates/slurmlet.toml.j2", changes)
        tables = tomllib.loads(text)
        return tables["sandbox"]["network"], tables["kubelet"]["pod_network"]

    found, used = network(slurmlet_pod_deny=["10.0.0.0/24"])
    assert used
    assert found["conf_dir"] == "/etc/cni/net.d"
    assert found["ranges"] == ["10.78.1.0/24", "10.78.2.0/24"]
    assert found["deny"] == ["10.0.0.0/24"]
    found, used = network(hostvars=hostvars({}))
    assert not used
    assert found["conf_dir"] == ""


def corefile(**changes: Any) -> str:
    return " ".join(render("dns/templates/Corefile.j2", changes).split())


def test_dns_answers_for_services_and_for_the_addresses_of_pods() -> None:
    text = corefile()
    zones = "cluster.local 10.78.1.0/24 10.78.2.0/24"
    assert f"{zones} {{ bind 10.77.0.1 " in text
    assert f"kubernetes {zones} {{" in text
    site = {"controlplane": {"cluster_domain": "k8s.example.org"}}
    text = corefile(slurmlet_settings=site, slurmlet_dns_address="10.0.0.9", hostvars=hostvars({}))
    assert "k8s.example.org { bind 10.0.0.9 " in text


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (["/etc/resolv.conf"], "127.0.0.53"),
        (["192.0.2.1", "192.0.2.2"], "192.0.2.1 192.0.2.2"),
        (["192.0.2.1", "/etc/resolv.conf"], "192.0.2.1 127.0.0.53"),
    ],
)
def test_other_names_are_asked_of_the_sites_resolvers_but_never_of_ourselves(
    given: list[str], asked: str
) -> None:
    text = corefile(slurmlet_dns_upstreams=given)
    assert f"forward . {asked} {{" in text
    assert "template" not in text


def test_without_resolvers_other_names_do_not_exist() -> None:
    text = corefile(slurmlet_dns_upstreams=[])
    assert "forward" not in text
    assert "template ANY ANY { rcode NXDOMAIN }" in text


PER_PARTITION = {"slurmlet_nodes": "per-partition", "slurmlet_partitions": ["cpu", "Big.Mem"]}


@pytest.mark.claim("V9")
@pytest.mark.parametrize("changes", [{}, PER_PARTITION, {"slurmlet_partitions": ["cpu"]}])
def test_roll_out_and_agent_mean_the_same_nodes(changes: dict[str, Any]) -> None:
    tables = tomllib.loads(render("common/templates/slurmlet.toml.j2", changes))
    config = decode(Kubelet, tables["kubelet"], path="kubelet")
    assert problems(config) == []
    templar = Templar(loader=DataLoader(), variables=settings_variables() | changes)
    names = templar.template(trusted("{{ __slurmlet_virtual_nodes }}"))
    assert names == [node.name for node in virtual_nodes(config)]


@pytest.mark.parametrize(
    ("changes", "url", "nodes"),
    [
        ({}, "https://10.77.0.1:10270", ["slurm"]),
        (PER_PARTITION, "https://10.77.0.1:10270", ["slurm-cpu", "slurm-big-mem"]),
        (
            {
                "slurmlet_address": "2001:db8::1",
                "slurmlet_settings": {"webhook": {"port": 1}, "kubelet": {"node_name": "alpha"}},
            },
            "https://[2001:db8::1]:1",
            ["alpha"],
        ),
    ],
)
def test_the_webhook_is_registered_with_arguments_that_it_knows(
    changes: dict[str, Any], url: str, nodes: list[str]
) -> None:
    templar = Templar(loader=DataLoader(), variables=settings_variables() | changes)
    program, *arguments = templar.template(trusted("{{ __slurmlet_webhook_bootstrap }}"))
    assert program == "/opt/slurmlet/current/bin/slurmlet-webhook"
    known = webhook_command.parser().parse_args([str(word) for word in arguments])
    assert (known.command, known.url, known.node) == ("bootstrap", url, nodes)
    assert known.config == "/etc/slurmlet/slurmlet.toml"
    assert (known.services, known.no_pod_network) == ("webhook", False)


def test_services_are_made_headless_by_policies_where_the_site_wants_it() -> None:
    variables = settings_variables() | {
        "slurmlet_services": "policy",
        "__slurmlet_pod_ranges": {},
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    _, *arguments = templar.template(trusted("{{ __slurmlet_webhook_bootstrap }}"))
    known = webhook_command.parser().parse_args([str(word) for word in arguments])
    assert (known.services, known.no_pod_network) == ("policy", True)


def units() -> list[Path]:
    return sorted(ROLES.glob("*/templates/*.service.j2"))


@pytest.mark.parametrize("unit", units(), ids=lambda path: path.stem)
def test_services_restart_for_ever_and_have_no_more_rights_than_they_need(unit: Path) -> None:
    lines = render(str(unit.relative_to(ROLES)), {}).splitlines()
    assert "NoNewPrivileges=yes" in lines
    if "Type=oneshot" in lines:
        assert {"CapabilityBoundingSet=CAP_NET_ADMIN", "ProtectSystem=strict"} <= set(lines)
        return
    assert {"Restart=always", "StartLimitIntervalSec=0"} <= set(lines)
    if "dns" in unit.name:  # what anybody may send packets to has a user of its own
        assert {"DynamicUser=yes", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"} <= set(lines)
    elif "broker" in unit.name:
        assert "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL" in lines
    else:
        assert {"User=slurmlet", "CapabilityBoundingSet=", "ProtectSystem=strict"} <= set(lines)


def test_the_agent_may_write_where_it_publishes_and_others_may_read_it() -> None:
    lines = render("kubelet/templates/slurmlet-kubelet.service.j2", {}).splitlines()
    name = Path(POLICY_FILE).parent.name
    assert Path(POLICY_FILE).parent == Path("/run") / name
    assert {f"RuntimeDirectory={name}", "RuntimeDirectoryMode=0755"} <= set(lines)
    assert "RuntimeDirectoryPreserve=yes" in lines
    assert Kubelet(server="https://x", address="x").policy_file == WebhookConfig().policy_file


def test_only_the_agents_group_may_open_the_brokers_socket() -> None:
    lines = render("broker/templates/slurmlet-broker.socket.j2", {}).splitlines()
    assert {"SocketUser=root", "SocketGroup=slurmlet", "SocketMode=0660"} <= set(lines)
