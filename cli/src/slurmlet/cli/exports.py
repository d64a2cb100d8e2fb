"""Whether the addresses of pods lie in what a file server exports to. Whoever has such an address
speaks to the server as a trusted host, and a pod is none."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from slurmlet.cli.finding import Finding

_EVERYBODY = ("*", "<world>", "(everyone)", "0.0.0.0/0")
_WORD = re.compile(r'"[^"]*"|\S+')


@dataclass(frozen=True, slots=True)
class Export:
    """A directory and one of those to whom it is exported, as the server spells it."""

    directory: str
    client: str


def parse(text: str) -> list[Export]:
    """Lines of exports(5), which exportfs -s prints, too; showmount puts commas between clients."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = _WORD.findall(line.split("#", 1)[0])
        if words:
            clients = [client for word in words[1:] or ["*"] for client in _clients(word)]
            found += [Export(words[0].strip('"'), client) for client in clients]
    return found


def _clients(word: str) -> list[str]:
    """10.0.0.0/24(rw,sync) → 10.0.0.0/24. An option list alone stands for everybody."""
    if word.startswith("-"):
        return []
    names = re.sub(r"\([^)]*\)", "", word)
    return [name for name in names.split(",") if name] if names else ["*"]


def examine(exports: Sequence[Export], ranges: Sequence[IPv4Network]) -> list[Finding]:
    """Host names and netgroups are not looked up: an address of a pod has no name there."""
    found: dict[str, Finding] = {}
    for export in exports:
        hit = [str(pods) for pods in ranges if _covers(export.client, pods)]
        if hit:
            text = f"{export.directory} is exported to {export.client}, and so to pods at {hit[0]}"
            more = f" and {len(hit) - 1} more ranges" if len(hit) > 1 else ""
            remedy = "export it to the nodes' networks only, or choose other ranges"
            found[f"{export}"] = Finding(f"{text}{more}: {remedy}")
    return list(found.values())


def _covers(client: str, pods: IPv4Network) -> bool:
    if client in _EVERYBODY:
        return True
    try:
        return ip_network(client, strict=False).overlaps(pods)
    except (ValueError, TypeError):
        return False


def mounted(mounts: str) -> dict[str, str]:
    """IPv4 address of each NFS server → what is mounted from there, of /proc/self/mounts."""
    found: dict[str, list[str]] = {}
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 4 or words[2] not in ("nfs", "nfs4"):
            continue
        options = dict(option.partition("=")[::2] for option in words[3].split(","))
        address = options.get("addr", "")
        if address.count(".") == 3:
            found.setdefault(address, []).append(words[1])
    return {address: ", ".join(places) for address, places in found.items()}
