"""Names, /etc/hosts and /etc/resolv.conf of a pod."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurmlet.contracts.podproto import Event, Plan
from slurmlet.supervisor.hostfiles import HostnameError, Names, hosts, pod_names, resolv_conf
from slurmlet.supervisor.network import find_network
from slurmlet.supervisor.process import ProcessError
from slurmlet.supervisor.sandbox import Sandbox

from .plans import make_plan

NODE = "nameserver 10.0.0.1\nsearch lab\noptions ndots:1\n"
LOCAL = "127.0.0.1 localhost\n"
CLUSTER = "alice.svc.cluster.local svc.cluster.local cluster.local"


def plan(**spec: Any) -> Plan:
    made = make_plan([], **spec)
    return replace(
        made, pod_ip="10.78.1.5", dns_servers=("10.77.0.1",), cluster_domain="cluster.local"
    )


def resolver(spec: dict[str, Any], *, node: str = NODE, own: bool = True) -> str:
    return resolv_conf(plan(**spec), node=node, own_network=own).text


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, Names(host="web", kernel="web")),
        ({"hostname": "h"}, Names(host="h", kernel="h")),
        ({"hostNetwork": True, "hostname": "h"}, Names()),
        ({"hostname": "x" * 70}, Names(host="x" * 63, kernel="x" * 63)),
        (
            {"hostname": "h", "subdomain": "s"},
            Names(host="h", qualified="h.s.alice.svc.cluster.local", kernel="h"),
        ),
        (
            {"subdomain": "s", "setHostnameAsFQDN": True},
            Names(
                host="web",
                qualified="web.s.alice.svc.cluster.local",
                kernel="web.s.alice.svc.cluster.local",
            ),
        ),
        ({"setHostnameAsFQDN": True}, Names(host="web", kernel="web")),
        ({"hostnameOverride": "o.x", "subdomain": "s"}, Names(host="o.x", kernel="o.x")),
    ],
)
def test_a_pod_has_names(spec: dict[str, Any], names: Names) -> None:
    assert pod_names(plan(**spec)) == names


def test_a_full_name_that_the_kernel_cannot_have_is_told() -> None:
    with pytest.raises(HostnameError, match="has 76 characters, a host name at most 64"):
        pod_names(plan(hostname="h" * 50, subdomain="s", setHostnameAsFQDN=True))


def test_a_pod_of_its_own_network_knows_its_address() -> None:
    spec = {
        "hostname": "h",
        "subdomain": "s",
        "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}],
    }
    made = plan(**spec)
    lines = hosts(made, node="never", names=pod_names(made), own_network=True).splitlines()
    assert lines[:2] == ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost"]
    assert lines[-3:] == [
        "10.78.1.5\th.s.alice.svc.cluster.local\th",
        "# Entries added by HostAliases.",
        "1.2.3.4\ta\tb",
    ]


def test_in_the_nodes_network_the_nodes_file_is_completed() -> None:
    spec = {"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}
    added = "# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
    assert hosts(plan(**spec), node=LOCAL, names=Names(), own_network=False) == LOCAL + added
    names = Names(host="web", kernel="web")
    assert hosts(plan(), node=LOCAL, names=names, own_network=False) == LOCAL + "127.0.1.1\tweb\n"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"dnsPolicy": "ClusterFirst"},
        {"dnsPolicy": "ClusterFirstWithHostNet"},
        {"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True},
    ],
)
def test_the_cluster_answers_first(spec: dict[str, Any]) -> None:
    assert resolver(spec) == f"nameserver 10.77.0.1\nsearch {CLUSTER} lab\noptions ndots:5\n"


@pytest.mark.parametrize(
    "spec", [{"dnsPolicy": "Default"}, {"dnsPolicy": "ClusterFirst", "hostNetwork": True}]
)
def test_the_nodes_resolver_answers(spec: dict[str, Any]) -> None:
    assert resolver(spec) == NODE


def test_without_a_cluster_dns_the_node_answers() -> None:
    made = replace(plan(), dns_servers=())
    assert resolv_conf(made, node=NODE, own_network=True).text == NODE


def test_none_of_the_nodes_resolver() -> None:
    spec = {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.0.0.2"]}}
    assert resolver(spec) == "nameserver 10.0.0.2\n"


def test_dns_config_completes_and_overrides() -> None:
    config = {
        "nameservers": ["10.0.0.2", "10.77.0.1"],
        "searches": ["x", "lab"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    assert resolver({"dnsConfig": config}) == (
        "nameserver 10.77.0.1\nnameserver 10.0.0.2\n"
        f"search {CLUSTER} lab x\noptions ndots:2 edns0\n"
    )


def test_the_nodes_loopback_is_not_the_pods() -> None:
    node = "nameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.1\n"
    assert resolver({"dnsPolicy": "Default"}, node=node) == "nameserver 10.0.0.1\n"
    assert resolver({"dnsPolicy": "Default"}, node=node, own=False) == node


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text(NODE)
    (tmp_path / "hosts").write_text(LOCAL)
    told: list[Event] = []
    config = {
        "nameservers": ["10.0.0.2", "10.0.0.3", "10.0.0.4"],
        "searches": [f"{number}.{'x' * 200}" for number in range(20)],
    }
    sandbox = Sandbox(job_id=1, kinds=("ipc", "uts", "net"), hints=tmp_path)
    made = plan(dnsConfig=config)
    network = find_network(made, sandbox=sandbox, tell=told.append, etc=tmp_path)
    assert network.own
    assert network.files["resolv.conf"].count("nameserver") == 3
    assert len(network.files["resolv.conf"].splitlines()[3]) <= len("search ") + 2048
    assert told[0].reason == "DNSConfigForming"
    assert "10.0.0.4" in told[0].message
    assert network.files["hostname"] == "web\n"


def test_a_pod_without_sandbox_has_no_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(LOCAL)
    network = find_network(plan(), sandbox=None, tell=lambda _: None, etc=tmp_path)
    assert not network.own
    assert network.files["hosts"] == LOCAL
    assert "hostname" not in network.files


def test_an_impossible_name_fails_the_pod(tmp_path: Path) -> None:
    sandbox = Sandbox(job_id=1, kinds=("uts",), hints=tmp_path)
    made = plan(hostname="h" * 50, subdomain="s", setHostnameAsFQDN=True)
    with pytest.raises(ProcessError, match="setHostnameAsFQDN"):
        find_network(made, sandbox=sandbox, tell=lambda _: None, etc=tmp_path)
