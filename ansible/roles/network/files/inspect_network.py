"""Prints how a node can be connected to the pods' network, as JSON. Runs on the node.

usage: inspect_network.py JSON, what the node should be: see main().
"""

import json
import shutil
import subprocess
import sys
from ipaddress import IPv4Network, ip_interface, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

PLUGINS = ("ptp", "host-local")
CONF_SUFFIXES = (".conflist", ".conf", ".json")
SMALLEST = 28
"""Prefix length: of 16 addresses 13 are for pods."""
SYSCTL = Path("/etc/sysctl.d/90-slurmlet.conf")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
UNIT = Path("/etc/systemd/system/slurmlet-routes.service")
RESOLV_CONF = Path("/etc/resolv.conf")
SECONDS = 10


def main() -> None:
    expected = json.loads(sys.argv[1])
    ranges, problems = parsed(expected["ranges"])
    mine = ranges.get(expected["name"])
    result: dict[str, Any] = {"address": "", "mtu": 0, "interface": ""}
    if expected["ranges"]:
        interfaces = ask("ip", "-json", "address")
        address = expected["address"] or source_address(ask, expected["control_address"])
        result |= own_interface(interfaces, address)
        problems += address_problems(address, result["interface"], expected["control_address"])
        problems += range_problems(expected, ranges)
        theirs = ranges
        if expected["config"] == "site":  # what it does with the node's own range is its affair
            theirs = {host: found for host, found in ranges.items() if host != expected["name"]}
        problems += interface_problems(theirs, interfaces, mine)
        if expected["routes"]:
            routes = ask("ip", "-json", "route")
            problems += route_problems(theirs, routes, mine, protocol=expected["protocol"])
        if expected["compute"]:
            problems += plugin_problems(expected)
            problems += conf_problems(expected, listed(Path(expected["conf_dir"])))
    forwarding = FORWARDING.read_text().strip() == "1"
    result |= {
        "problems": problems,
        "forwarding": forwarding,
        "claimed": SYSCTL.exists(),
        "forwards": mine is not None and (SYSCTL.exists() or not forwarding),
        "routes": UNIT.exists(),
        "conf_dir": Path(expected["conf_dir"]).is_dir(),
        "nameservers": nameservers(RESOLV_CONF),
    }
    print(json.dumps(result))


def parsed(texts: dict[str, str]) -> tuple[dict[str, IPv4Network], list[str]]:
    """Ranges by host, and what is wrong with those that are none."""
    ranges, problems = {}, []
    for host, text in texts.items():
        try:
            found = ip_network(text)
        except ValueError as error:
            problems.append(f"slurmlet_pod_cidr of {host}: {error}; write one like 10.78.1.0/24")
            continue
        if not isinstance(found, IPv4Network) or found.prefixlen > SMALLEST:
            problems.append(
                f"slurmlet_pod_cidr of {host}: {text} must be an IPv4 network of /{SMALLEST} or"
                " larger"
            )
        elif str(found) != text:
            problems.append(f"slurmlet_pod_cidr of {host}: write {text} as {found}")
        else:
            ranges[host] = found
    return ranges, problems


def range_problems(expected: dict[str, Any], ranges: dict[str, IPv4Network]) -> list[str]:
    """Each compute host has a range that no other has, and that Services do not have."""
    problems = []
    if expected["compute"] and expected["name"] not in expected["ranges"]:
        problems.append(
            "slurmlet_pod_cidr is set for other compute hosts and not for this one: set it for"
            " all, or for none"
        )
    services = ip_network(expected["service_cidr"])
    ordered = sorted(ranges.items(), key=lambda pair: (pair[1].network_address, pair[1].prefixlen))
    for host, found in ordered:
        if found.overlaps(services):
            problems.append(
                f"slurmlet_pod_cidr of {host}: {found} overlaps {services}, which is for Services"
            )
    # In order of their addresses, only neighbours need to be compared.
    for (one, first), (two, second) in pairwise(ordered):
        if first.overlaps(second):
            problems.append(f"slurmlet_pod_cidr of {one} and {two}: {first} overlaps {second}")
    return problems


def address_problems(address: str, interface: str, control: str) -> list[str]:
    if not address:
        return [f"there is no route to slurmlet_address {control}: set slurmlet_node_address"]
    if ":" in address:
        return [f"slurmlet_node_address: {address} must be an IPv4 address of this node"]
    if not interface:
        return [f"slurmlet_node_address: no interface of this node has {address}"]
    return []


def interface_problems(
    ranges: dict[str, IPv4Network], interfaces: list[dict[str, Any]], mine: IPv4Network | None
) -> list[str]:
    """A range must not hold addresses of nodes. The end of each pod's link has its gateway's."""
    problems = []
    for interface in interfaces:
        for info in interface.get("addr_info", []):
            if info["family"] != "inet":
                continue
            found = ip_interface(f"{info['local']}/{info['prefixlen']}")
            if mine and found.network.prefixlen == 32 and found.ip in mine:
                continue
            problems += [
                f"slurmlet_pod_cidr of {host}: {own} overlaps {found} of {interface['ifname']}"
                for host, own in ranges.items()
                if own.overlaps(found.network)
            ]
    return problems


def route_problems(
    ranges: dict[str, IPv4Network],
    routes: list[dict[str, Any]],
    mine: IPv4Network | None,
    *,
    protocol: int,
) -> list[str]:
    """Somebody else's routes into a range. Wider ones are no conflict: ours are preferred."""
    problems = []
    for route in routes:
        if route["dst"] == "default" or str(route.get("protocol")) == str(protocol):
            continue
        found = IPv4Network(route["dst"])
        if mine and found.prefixlen == 32 and found.subnet_of(mine):
            continue  # a pod's
        problems += [
            f"slurmlet_pod_cidr of {host}: this node has another route into {own}: {found}"
            f" {'via ' + route['gateway'] if 'gateway' in route else 'on ' + route.get('dev', '-')}"
            for host, own in ranges.items()
            if found.subnet_of(own)
        ]
    return problems


def plugin_problems(expected: dict[str, Any]) -> list[str]:
    places = expected["bin_dirs"]
    wanted = PLUGINS if expected["config"] == "managed" else ()
    problems = [
        f"CNI plugin {name} is in none of {', '.join(places)}: install the site's package of CNI"
        " plugins (containernetworking-plugins), or add its directory to slurmlet_settings:"
        " sandbox.network.bin_dirs"
        for name in wanted
        if not any(shutil.which(str(Path(place) / name)) for place in places)
    ]
    if not shutil.which("nft"):
        problems.append("nft is not in PATH: install nftables; pods' packets are filtered with it")
    return problems


def conf_problems(expected: dict[str, Any], names: list[str]) -> list[str]:
    """The configuration that counts is the first by name."""
    own, directory = expected["conf_name"], expected["conf_dir"]
    others = [name for name in names if name != own]
    if expected["config"] == "site" and not others:
        return [f"slurmlet_cni_config is site, but {directory} has no CNI configuration"]
    if expected["config"] == "managed" and others and others[0] < own:
        first = f"{directory}/{others[0]} comes before {own} and would be used for pods"
        return [f"{first}: rename it, or set slurmlet_cni_config to site"]
    return []


def listed(directory: Path) -> list[str]:
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.iterdir() if path.suffix in CONF_SUFFIXES)


def nameservers(path: Path) -> list[str]:
    """Whom this node asks for names."""
    lines = path.read_text().splitlines() if path.exists() else []
    words = [line.split() for line in lines]
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


def source_address(ask: Any, control: str) -> str:
    """The address from which this node reaches the control host; empty if it does not."""
    found = ask("ip", "-json", "route", "get", control)
    return str(found[0].get("prefsrc", "")) if found else ""


def own_interface(interfaces: list[dict[str, Any]], address: str) -> dict[str, Any]:
    """Which interface has the address, and what fits through it (bytes)."""
    for interface in interfaces:
        if any(info["local"] == address for info in interface.get("addr_info", [])):
            return {
                "address": address,
                "interface": interface["ifname"],
                "mtu": interface["mtu"],
            }
    return {"address": address, "interface": "", "mtu": 0}


def ask(*argv: str) -> list[dict[str, Any]]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]") if done.returncode == 0 else []
    return found


if __name__ == "__main__":
    main()
