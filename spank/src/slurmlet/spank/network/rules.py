"""What the host lets pods send: one nft transaction holds the whole truth of a node.

Each one replaces chains and sets by what the records say, so nothing of an ended job stays, and
what a reload of the site's firewall flushed comes back with the next pod's prolog or epilog.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from slurmlet.spank.config import Network
from slurmlet.spank.network import NetworkError
from slurmlet.spank.network.result import Address
from slurmlet.spank.process import ProcessError, run

_NFT = "/usr/sbin/nft"

_SETS = """\
add table inet slurmlet
add set inet slurmlet interfaces { type ifname; }
add set inet slurmlet interfaces6 { type ifname; }
add set inet slurmlet addresses { type ifname . ipv4_addr; }
add set inet slurmlet addresses6 { type ifname . ipv6_addr; }
add set inet slurmlet deny { type ipv4_addr; flags interval; auto-merge; }
add set inet slurmlet deny6 { type ipv6_addr; flags interval; auto-merge; }
add set inet slurmlet connections { type ifname; size 65535; flags dynamic; }
add table arp slurmlet
add set arp slurmlet interfaces { type ifname; }
add set arp slurmlet addresses { type ifname . ipv4_addr; }
flush set inet slurmlet interfaces
flush set inet slurmlet interfaces6
flush set inet slurmlet addresses
flush set inet slurmlet addresses6
flush set inet slurmlet deny
flush set inet slurmlet deny6
flush set arp slurmlet interfaces
flush set arp slurmlet addresses
"""
# Prerouting sees what goes to the host itself and what it forwards. Forged packets go before
# conntrack, so that they fill no table; what tells a connection's first packet goes after it.
_CHAINS = """\
add chain inet slurmlet source { type filter hook prerouting priority raw; policy accept; }
add chain inet slurmlet pods { type filter hook prerouting priority mangle; policy accept; }
add chain inet slurmlet forward { type filter hook forward priority filter; policy accept; }
add chain arp slurmlet input { type filter hook input priority filter; policy accept; }
flush chain inet slurmlet source
flush chain inet slurmlet pods
flush chain inet slurmlet forward
flush chain arp slurmlet input
add rule inet slurmlet source iifname != @interfaces accept
add rule inet slurmlet source icmp type redirect drop
add rule inet slurmlet source iifname . ip saddr @addresses accept
add rule inet slurmlet source iifname . ip6 saddr @addresses6 accept
add rule inet slurmlet source iifname @interfaces6 ip6 saddr fe80::/10 icmpv6 type\
 { nd-neighbor-solicit, nd-neighbor-advert } accept
add rule inet slurmlet source counter drop
add rule inet slurmlet pods iifname != @interfaces accept
add rule inet slurmlet pods ip daddr @deny counter drop
add rule inet slurmlet pods ip6 daddr @deny6 counter drop
add rule inet slurmlet pods ct state established,related accept
add rule inet slurmlet pods meta l4proto { tcp, udp, udplite, sctp, dccp } th sport < 1024\
 counter drop
add rule inet slurmlet pods ct state new add @connections { iifname ct count over CONNECTIONS }\
 counter drop
add rule arp slurmlet input iifname != @interfaces accept
add rule arp slurmlet input iifname . arp saddr ip @addresses accept
add rule arp slurmlet input counter drop
"""
_CONNECTIONS = 16384
"""Of one pod at a time: the node's table, which all share, holds some 262,144."""
_FORWARD = """\
add rule inet slurmlet forward iifname != @interfaces oifname != @interfaces counter drop
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """The host's side of a sandbox, and whose packets may come from it."""

    interface: str
    addresses: Sequence[Address]


def apply(network: Network, attached: Iterable[Attached]) -> None:
    """Make these the only ones. Raises NetworkError."""
    try:
        run([_NFT, "-f", "-"], stdin=text(network, attached).encode())
    except ProcessError as error:
        raise NetworkError(f"cannot set the rules of pods' interfaces: {error}") from None


def text(network: Network, attached: Iterable[Attached]) -> str:
    """The transaction."""
    elements: dict[str, list[str]] = {}

    def add(place: str, element: str) -> None:
        elements.setdefault(place, []).append(element)

    for one in attached:
        add("inet slurmlet interfaces", f'"{one.interface}"')
        add("arp slurmlet interfaces", f'"{one.interface}"')
        for address in one.addresses:
            if address.version == 4:
                add("inet slurmlet addresses", f'"{one.interface}" . {address}')
                add("arp slurmlet addresses", f'"{one.interface}" . {address}')
            else:
                add("inet slurmlet addresses6", f'"{one.interface}" . {address}')
        if any(address.version == 6 for address in one.addresses):
            add("inet slurmlet interfaces6", f'"{one.interface}"')
    for cidr in network.deny:
        net = ip_network(cidr)
        add(f"inet slurmlet deny{'' if net.version == 4 else 6}", str(net))
    filled = "".join(
        f"add element {place} {{ {', '.join(dict.fromkeys(items))} }}\n"
        for place, items in elements.items()
    )
    chains = _CHAINS.replace("CONNECTIONS", str(_CONNECTIONS))
    return _SETS + chains + (_FORWARD if network.forwards else "") + filled
