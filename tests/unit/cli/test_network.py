"""What the doctor says of addresses, routes and plugins."""

from ipaddress import IPv4Network
from typing import Any

import pytest

from slurmlet.cli import network
from slurmlet.cli.finding import Finding
from slurmlet.cli.network import Node

C1, C2 = IPv4Network("10.78.1.0/24"), IPv4Network("10.78.2.0/24")
RANGES = [C1, C2]
OURS = [
    {"dst": "10.77.0.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link"},
    {"type": "unreachable", "dst": "10.78.1.0/24", "protocol": "78"},
    {"dst": "10.78.2.0/24", "gateway": "10.77.0.12", "dev": "eth0", "protocol": "78"},
    {"dst": "10.78.1.7", "dev": "veth1", "scope": "host"},
]


def interface(name: str, address: str) -> dict[str, Any]:
    local, prefix = address.split("/")
    info = {"family": "inet", "local": local, "prefixlen": int(prefix)}
    return {"ifname": name, "addr_info": [info, {"family": "inet6", "local": "fe80::1"}]}


def node(**changes: Any) -> Node:
    """c1, with one pod."""
    given: dict[str, Any] = {
        "interfaces": [interface("eth0", "10.77.0.11/24"), interface("veth1", "10.78.1.1/32")],
        "routes": OURS,
        "forwarding": True,
        "compute": True,
        "own": (C1,),
    }
    return Node(**given | changes)


def said(found: list[Finding]) -> str:
    return "\n".join(str(finding) for finding in found)


def test_a_connected_node_has_nothing_to_hear() -> None:
    assert network.examine(node(), RANGES) == []


def test_a_missing_route_names_the_range_and_the_command() -> None:
    (finding,) = network.examine(node(routes=OURS[:2]), RANGES)
    assert finding.problem
    assert "10.78.2.0/24" in finding.text
    assert "systemctl restart slurmlet-routes" in finding.text


def test_a_router_may_know_the_pods_instead() -> None:
    default = {"dst": "default", "gateway": "10.77.0.254"}
    (finding,) = network.examine(node(routes=[*OURS[:2], default]), RANGES)
    assert not finding.problem
    wide = {"dst": "10.0.0.0/8", "gateway": "10.77.0.254"}
    assert network.examine(node(routes=[*OURS[:2], wide]), RANGES) == []


def test_somebody_elses_route_into_a_range() -> None:
    other = {"dst": "10.78.2.64/26", "dev": "docker0"}
    (finding,) = network.examine(node(routes=[*OURS, other]), RANGES)
    assert finding.problem
    assert "10.78.2.64/26" in finding.text


@pytest.mark.parametrize("address", ["10.78.2.5/32", "10.78.0.5/16"])
def test_addresses_of_nodes_lie_outside_of_all_ranges(address: str) -> None:
    found = network.examine(node(interfaces=[interface("ib0", address)]), RANGES)
    assert all(finding.problem for finding in found)
    assert f"{address} of ib0 overlaps the pods at 10.78.2.0/24" in said(found)


def test_a_compute_node_forwards_and_others_need_not() -> None:
    (finding,) = network.examine(node(forwarding=False), RANGES)
    assert "ip_forward" in finding.text
    routes = [{"dst": str(pods), "gateway": "10.77.0.9"} for pods in RANGES]
    control = node(compute=False, forwarding=False, own=(), routes=routes, interfaces=[])
    assert network.examine(control, RANGES) == []


def test_own_ranges_are_what_host_local_gives_out() -> None:
    ranges = {"type": "host-local", "ranges": [[{"subnet": "10.78.1.0/24"}]]}
    assert network.own_ranges([{"type": "ptp", "ipam": ranges}]) == (C1,)
    subnet = {"type": "host-local", "subnet": "10.78.1.0/24"}
    assert network.own_ranges([{"type": "bridge", "ipam": subnet}, {"type": "tuning"}]) == (C1,)
    assert network.own_ranges([{"type": "macvlan", "ipam": {"type": "dhcp"}}]) is None
    assert network.own_ranges([{"type": "macvlan"}]) is None


def test_a_site_whose_own_software_gives_addresses_is_not_second_guessed() -> None:
    bridge = [interface("cni0", "10.78.1.1/24")]
    assert network.examine(node(own=None, interfaces=bridge), RANGES) == []


def test_plugins_of_the_whole_chain_must_be_there() -> None:
    chain: list[dict[str, Any]] = [
        {"type": "ptp", "ipam": {"type": "host-local"}},
        {"type": "tuning"},
    ]
    found = network.plugins(chain, present={"ptp"}, bin_dirs=["/usr/lib/cni"])
    assert "host-local" in said(found)
    assert "tuning" in said(found)
    assert "CNI plugin ptp " not in said(found)
    assert network.plugins(chain, present={"ptp", "host-local", "tuning"}, bin_dirs=[]) == []


def test_file_servers_that_pods_reach_are_worth_a_note() -> None:
    servers = {"10.0.0.5": "/home", "10.1.0.5": "/scratch"}
    (finding,) = network.storage(servers, deny=[IPv4Network("10.1.0.0/16")])
    assert not finding.problem
    assert "/home" in finding.text
