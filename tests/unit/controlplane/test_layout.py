from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.controlplane import layout
from slurmlet.controlplane.certificates import Request, leaves
from slurmlet.controlplane.config import Config

CONFIG = Config(advertise_address="10.77.0.1")


def flags(name: str, config: Config = CONFIG) -> dict[str, str]:
    argv = next(one.argv for one in layout.processes(config) if one.name == name)
    return dict(word.removeprefix("--").split("=", 1) for word in argv[1:])


def test_programs_come_from_bin_dir_in_starting_order() -> None:
    config = replace(CONFIG, bin_dir=Path("/b"))
    assert [one.argv[0] for one in layout.processes(config)] == [
        "/b/etcd",
        "/b/kube-apiserver",
        "/b/kube-controller-manager",
    ]


def test_apiserver_routes_webhooks_without_cluster_ips_and_guards_nodes() -> None:
    found = flags("kube-apiserver")
    assert found["enable-aggregator-routing"] == "true"
    assert found["authorization-mode"] == "Node,RBAC"
    assert found["enable-admission-plugins"] == "NodeRestriction"
    assert found["kubelet-preferred-address-types"] == "InternalIP,Hostname"
    assert found["advertise-address"] == "10.77.0.1"
    assert "endpoint-reconciler-type" not in found


def test_a_stop_of_the_apiserver_does_not_wait_for_watches() -> None:
    """It would take all of the unit's TimeoutStopSec, in which nobody is served."""
    assert flags("kube-apiserver")["shutdown-watch-termination-grace-period"] == "3s"


def test_a_lost_agent_does_not_evict_pods() -> None:
    found = flags("kube-controller-manager")
    assert found["controllers"] == "*,-taint-eviction-controller"
    assert found["node-monitor-grace-period"] == "900s"
    assert found["terminated-pod-gc-threshold"] == "200"


def test_how_long_a_node_may_be_silent_is_the_sites() -> None:
    given = replace(CONFIG, node_grace_seconds=60)
    assert flags("kube-controller-manager", given)["node-monitor-grace-period"] == "60s"


def test_etcd_lets_in_the_api_server_only() -> None:
    found = flags("etcd")
    assert found["client-cert-auth"] == "true"
    assert found["client-cert-allowed-hostname"] == "apiserver-etcd-client"
    assert found["peer-cert-allowed-hostname"] == "etcd-server"
    assert "127.0.0.1" in found["listen-client-urls"]


def test_fsync_is_given_up_only_when_asked() -> None:
    assert "unsafe-no-fsync" not in flags("etcd")
    assert flags("etcd", replace(CONFIG, etcd_fsync=False))["unsafe-no-fsync"] == "true"


def test_requests_are_logged_by_a_policy_only() -> None:
    assert not any(name.startswith("audit-") for name in flags("kube-apiserver"))
    found = flags("kube-apiserver", replace(CONFIG, audit_policy="/etc/audit.yaml"))
    assert found["audit-policy-file"] == "/etc/audit.yaml"
    assert found["audit-log-path"] == "-"


def test_on_loopback_no_endpoint_is_published() -> None:
    config = replace(CONFIG, advertise_address="127.0.0.1")
    assert flags("kube-apiserver", config)["endpoint-reconciler-type"] == "none"


def test_no_secret_is_in_argv() -> None:
    for one in layout.processes(CONFIG):
        assert not any("PRIVATE" in word or "BEGIN" in word for word in one.argv)


@pytest.mark.parametrize(
    ("cidr", "address"), [("10.96.0.0/16", "10.96.0.1"), ("fd00::/112", "fd00::1")]
)
def test_the_api_servers_service_ip_is_the_first_of_the_range(cidr: str, address: str) -> None:
    config = replace(CONFIG, service_cidr=cidr, cluster_domain="hpc.site")
    request = layout.named(Request(sans=("ctl",)), config)
    names = next(leaf.sans for leaf in leaves(request) if leaf.file == "apiserver")
    assert {address, "kubernetes.default.svc.hpc.site", "ctl"} <= set(names)


def test_api_url_brackets_an_ipv6_address() -> None:
    assert layout.api_url(replace(CONFIG, advertise_address="fd00::1")) == "https://[fd00::1]:6443"


def test_units_start_after_what_they_need_and_always_restart() -> None:
    units = layout.units(CONFIG)
    assert sorted(units) == [
        "slurmlet-apiserver.service",
        "slurmlet-controller-manager.service",
        "slurmlet-etcd.service",
    ]
    assert (
        "After=network-online.target slurmlet-etcd.service" in units["slurmlet-apiserver.service"]
    )
    for text in units.values():
        assert "Restart=always\n" in text
        assert "StartLimitIntervalSec=0\n" in text
        assert "CapabilityBoundingSet=\n" in text


def test_etcd_unit_may_write_its_data_only() -> None:
    text = layout.units(CONFIG)["slurmlet-etcd.service"]
    assert "StateDirectory=slurmlet/controlplane\nStateDirectoryMode=0700\n" in text
    elsewhere = layout.units(replace(CONFIG, data_dir=Path("/srv/etcd data")))
    assert 'ReadWritePaths="/srv/etcd data"\n' in elsewhere["slurmlet-etcd.service"]


def unquote(word: str) -> str:
    """What systemd.service(5) makes of a word of ExecStart."""
    if word.startswith('"'):
        word = word[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return word.replace("%%", "%").replace("$$", "$")


@given(st.text(st.characters(min_codepoint=32, exclude_characters="/"), min_size=1, max_size=20))
def test_every_path_reaches_the_process_as_it_is(name: str) -> None:
    config = replace(CONFIG, pki_dir=Path("/p") / name)
    text = layout.units(config)["slurmlet-apiserver.service"]
    start = text.index("ExecStart=") + len("ExecStart=")
    words = text[start : text.index("\nRestart=")].split(" \\\n  ")
    assert tuple(map(unquote, words)) == layout.processes(config)[1].argv
