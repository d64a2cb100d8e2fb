"""Which pod networks a node is refused for."""

from collections.abc import Callable
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

C1 = ip_network("10.78.1.0/24")
C2 = ip_network("10.78.2.0/24")
RANGES = {"c1": C1, "c2": C2}


@pytest.fixture(scope="session")
def inspect(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("roles/network/files/inspect_network.py")


def expected(**changes: Any) -> dict[str, Any]:
    return {
        "name": "c1",
        "compute": True,
        "ranges": {"c1": "10.78.1.0/24", "c2": "10.78.2.0/24"},
        "service_cidr": "10.96.0.0/16",
        "config": "managed",
        "conf_dir": "/etc/cni/net.d",
        "conf_name": "10-slurmlet.conflist",
        "bin_dirs": ["/nowhere"],
        **changes,
    }


def interface(address: str, name: str = "eth0", **more: Any) -> dict[str, Any]:
    local, prefix = address.split("/")
    info = {"family": "inet", "local": local, "prefixlen": int(prefix)}
    return {"ifname": name, "mtu": 1450, "addr_info": [info], **more}


def test_good_ranges_are_no_problem(inspect: ModuleType) -> None:
    ranges, problems = inspect.parsed(expected()["ranges"])
    assert (ranges, problems) == (RANGES, [])
    assert inspect.range_problems(expected(), ranges) == []
    assert inspect.interface_problems(ranges, [interface("10.77.0.11/24")], C1) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("10.78.1.5/24", "host bits"),
        ("c1", "10.78.1.0/24"),
        ("fd00::/64", "IPv4"),
        ("10.78.1.0/30", "/28"),
        ("10.78.1.0/255.255.255.0", "as 10.78.1.0/24"),
    ],
)
def test_what_is_no_range_is_named_with_its_host(inspect: ModuleType, text: str, word: str) -> None:
    ranges, (problem,) = inspect.parsed({"c7": text})
    assert ranges == {}
    assert "slurmlet_pod_cidr of c7" in problem
    assert word in problem


@pytest.mark.parametrize(
    ("other", "word"), [("10.78.0.0/16", "c1"), ("10.96.128.0/24", "Services")]
)
def test_ranges_overlap_neither_each_other_nor_services(
    inspect: ModuleType, other: str, word: str
) -> None:
    ranges = {"c1": C1, "c9": ip_network(other)}
    (problem,) = inspect.range_problems(expected(), ranges)
    assert "c9" in problem
    assert word in problem


def test_all_compute_hosts_have_a_range_or_none(inspect: ModuleType) -> None:
    (problem,) = inspect.range_problems(expected(name="c3"), RANGES)
    assert "for all, or for none" in problem
    assert inspect.range_problems(expected(name="login", compute=False), RANGES) == []


def test_a_range_may_not_hold_addresses_of_nodes(inspect: ModuleType) -> None:
    (problem,) = inspect.interface_problems(RANGES, [interface("10.78.2.7/16")], None)[1:]
    assert "c2" in problem
    assert "eth0" in problem


def test_what_the_plugin_sets_for_a_pod_is_no_conflict(inspect: ModuleType) -> None:
    gateway = [interface("10.78.1.1/32", "veth0")]
    pod = [{"dst": "10.78.1.7", "dev": "veth0", "scope": "host"}]
    assert inspect.interface_problems(RANGES, gateway, C1) == []
    assert inspect.route_problems(RANGES, pod, C1, protocol=78) == []
    assert inspect.interface_problems(RANGES, gateway, C2) != []
    assert inspect.route_problems(RANGES, pod, C2, protocol=78) != []


@pytest.mark.parametrize(
    ("route", "conflict"),
    [
        ({"dst": "default", "gateway": "10.77.0.254"}, False),
        ({"dst": "10.0.0.0/8", "gateway": "10.77.0.254"}, False),
        ({"dst": "10.78.2.0/24", "gateway": "10.77.0.12", "protocol": "78"}, False),
        ({"dst": "10.78.2.0/24", "gateway": "10.77.0.99", "protocol": "static"}, True),
        ({"dst": "10.78.2.64/26", "dev": "docker0"}, True),
    ],
)
def test_others_have_no_routes_into_a_range(
    inspect: ModuleType, route: dict[str, Any], conflict: bool
) -> None:
    problems = inspect.route_problems(RANGES, [route], C1, protocol=78)
    assert bool(problems) is conflict
    assert all("c2" in problem and str(route["dst"]) in problem for problem in problems)


def test_plugins_are_looked_for_where_they_will_be(
    inspect: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ptp", "nft"):
        program = tmp_path / name
        program.touch()
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = expected(bin_dirs=["/nowhere", str(tmp_path)])
    (problem,) = inspect.plugin_problems(wanted)
    assert "host-local" in problem
    assert "containernetworking-plugins" in problem
    assert inspect.plugin_problems({**wanted, "config": "site"}) == []
    monkeypatch.setenv("PATH", "/nowhere")
    (problem,) = inspect.plugin_problems({**wanted, "config": "site"})
    assert "nftables" in problem


@pytest.mark.parametrize(
    ("config", "names", "word"),
    [
        ("managed", [], None),
        ("managed", ["10-slurmlet.conflist", "87-podman.conflist"], None),
        ("managed", ["05-site.conflist", "10-slurmlet.conflist"], "05-site.conflist"),
        ("site", ["05-site.conflist"], None),
        ("site", ["10-slurmlet.conflist"], "has no CNI configuration"),
    ],
)
def test_the_first_configuration_by_name_is_the_one_that_counts(
    inspect: ModuleType, config: str, names: list[str], word: str | None
) -> None:
    problems = inspect.conf_problems(expected(config=config), names)
    assert len(problems) == (word is not None)
    assert all(word in problem for problem in problems)


def test_the_nodes_address_says_which_interface_its_pods_use(inspect: ModuleType) -> None:
    interfaces = [interface("127.0.0.1/8", "lo"), interface("10.77.0.11/24")]
    found = inspect.own_interface(interfaces, "10.77.0.11")
    assert found == {"address": "10.77.0.11", "interface": "eth0", "mtu": 1450}
    (problem,) = inspect.address_problems("10.77.0.99", "", "10.77.0.1")
    assert "slurmlet_node_address" in problem
    (problem,) = inspect.address_problems("", "", "10.77.0.1")
    assert "no route to slurmlet_address 10.77.0.1" in problem
    assert isinstance(C1, IPv4Network)
