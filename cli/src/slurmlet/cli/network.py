"""Pure: whether a node is connected to the pods' network, from what the node says of itself."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError, ip_interface
from typing import Any

from slurmlet.cli.finding import Finding

PLAYBOOK = "roll out again (slurmlet.hpc.site)"
ROUTES = "systemctl restart slurmlet-routes, or " + PLAYBOOK


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """`interfaces` and `routes` are what ip -json prints. `own` are the pods' ranges of this node,
    None if something else than host-local gives addresses out."""

    interfaces: Sequence[Mapping[str, Any]]
    routes: Sequence[Mapping[str, Any]]
    forwarding: bool
    compute: bool
    own: tuple[IPv4Network, ...] | None = ()


def examine(node: Node, ranges: Sequence[IPv4Network]) -> list[Finding]:
    """All that concerns addresses, routes and forwarding."""
    found = _addresses(node, ranges) + _routes(node, ranges)
    if node.compute and not node.forwarding:
        remedy = "sysctl --load=/etc/sysctl.d/90-slurmlet.conf, or " + PLAYBOOK
        found.append(Finding(f"net.ipv4.ip_forward is 0, so nothing reaches pods: {remedy}"))
    return found


def own_ranges(plugins: Sequence[Mapping[str, Any]]) -> tuple[IPv4Network, ...] | None:
    """What host-local gives out here; None if other software gives the addresses."""
    ipam = plugins[0].get("ipam")
    if not isinstance(ipam, Mapping) or ipam.get("type") != "host-local":
        return None
    texts = [ipam.get("subnet")]
    texts += [part.get("subnet") for group in ipam.get("ranges") or [] for part in group]
    found = []
    for text in texts:
        try:
            found.append(IPv4Network(text))
        except (AddressValueError, NetmaskValueError, ValueError, TypeError):
            continue
    return tuple(found) or None


def plugins(
    configured: Sequence[Mapping[str, Any]], *, present: Collection[str], bin_dirs: Sequence[str]
) -> list[Finding]:
    """The programs that a CNI configuration names."""
    names = dict.fromkeys(str(plugin["type"]) for plugin in configured)
    for plugin in configured:
        ipam = plugin.get("ipam")
        if isinstance(ipam, Mapping) and ipam.get("type"):
            names[str(ipam["type"])] = None
    return [
        Finding(
            f"CNI plugin {name} is in none of {', '.join(bin_dirs)}: install it"
            " (containernetworking-plugins), or add its directory to sandbox.network.bin_dirs"
        )
        for name in names
        if name not in present
    ]


def storage(addresses: Mapping[str, str], *, deny: Sequence[IPv4Network]) -> list[Finding]:
    """File servers, address → what is mounted from there, that pods can reach."""
    return [
        Finding(
            f"pods can reach {address}, from which {mounted} is mounted: name its network in"
            " slurmlet_pod_deny if they must not",
            problem=False,
        )
        for address, mounted in addresses.items()
        if not any(IPv4Address(address) in network for network in deny)
    ]


def _addresses(node: Node, ranges: Sequence[IPv4Network]) -> list[Finding]:
    found = []
    for interface in node.interfaces:
        for info in interface.get("addr_info", []):
            if info.get("family") != "inet":
                continue
            address = ip_interface(f"{info['local']}/{info['prefixlen']}")
            for pods in ranges:
                if pods.overlaps(address.network) and not _is_own(node, pods):
                    text = f"{address} of {interface['ifname']} overlaps the pods at {pods}"
                    found.append(Finding(f"{text}: choose other ranges (slurmlet_pod_cidr)"))
    return found


def _is_own(node: Node, pods: IPv4Network) -> bool:
    if node.own is None:
        return node.compute
    return any(pods.overlaps(network) for network in node.own)


def _routes(node: Node, ranges: Sequence[IPv4Network]) -> list[Finding]:
    networks = [IPv4Network(each["dst"]) for each in node.routes if each["dst"] != "default"]
    default = len(networks) < len(node.routes)
    exact = set(networks)
    others = [network for network in networks if network not in set(ranges)]
    found = []
    for pods in ranges:
        if _is_own(node, pods):
            continue
        found += [
            Finding(
                f"route {network} of this node leads into the pods at {pods}: remove it, or"
                " choose other ranges (slurmlet_pod_cidr)"
            )
            for network in others
            if network.subnet_of(pods)
        ]
        if pods in exact or any(pods.subnet_of(network) for network in others):
            continue
        if default:
            text = f"the pods at {pods} are reached by the default route only"
            found.append(Finding(f"{text}: see that the router knows them, or {ROUTES}", False))
        else:
            found.append(Finding(f"there is no route to the pods at {pods}: {ROUTES}"))
    return found
