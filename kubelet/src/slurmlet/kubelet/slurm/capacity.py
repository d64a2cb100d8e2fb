"""How large the virtual node is: Slurm's nodes, summed."""

import re
from dataclasses import dataclass, field

from slurmlet.contracts.policy import NodeSize

_GRES = re.compile(r"([a-z][a-z0-9_]*)(?::[A-Za-z][^:(,]*)?:(\d+)(?:\([^)]*\))?")
_UNUSABLE = re.compile(r"down|drain|drng|drained|fail|boot|unk|inval|futr|maint|no_respond")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmNode:
    """A node of Slurm; memory in MiB. `usable` says that Slurm may start jobs there, `hostname`
    what the node calls itself."""

    name: str
    address: str
    hostname: str = ""
    cpus: int
    memory: int
    usable: bool
    gres: dict[str, int] = field(default_factory=dict)
    partitions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Sums over nodes; memory in MiB."""

    cpus: int
    memory: int
    gres: dict[str, int]


def parse(text: str) -> dict[str, SlurmNode]:
    """The nodes by name, from sinfo's line per node and partition."""
    nodes: dict[str, SlurmNode] = {}
    partitions: dict[str, list[str]] = {}
    for line in text.splitlines():
        fields = line.split("|", 7)
        if len(fields) != 8:
            continue
        name, partition, cpus, memory, state, address, hostname, gres = (
            item.strip() for item in fields
        )
        if not cpus.isdecimal() or not memory.isdecimal():
            continue
        partitions.setdefault(name, []).append(partition)
        nodes[name] = SlurmNode(
            name=name,
            address=address,
            hostname=hostname,
            cpus=int(cpus),
            memory=int(memory),
            # A trailing * says that the node does not answer.
            usable=not state.endswith("*") and not _UNUSABLE.match(state),
            gres=_gres(gres),
            partitions=tuple(partitions[name]),
        )
    return nodes


def total(nodes: dict[str, SlurmNode], *, usable_only: bool) -> Capacity:
    """The sum over all nodes, or over those that may run jobs."""
    chosen = [node for node in nodes.values() if node.usable or not usable_only]
    gres: dict[str, int] = {}
    for node in chosen:
        for name, count in node.gres.items():
            gres[name] = gres.get(name, 0) + count
    return Capacity(
        cpus=sum(node.cpus for node in chosen),
        memory=sum(node.memory for node in chosen),
        gres=gres,
    )


def largest(nodes: dict[str, SlurmNode]) -> dict[str, NodeSize]:
    """By partition, the most that one node of it has of each resource."""
    result: dict[str, NodeSize] = {}
    for node in nodes.values():
        for partition in node.partitions:
            seen = result.get(partition, NodeSize(cpus=0, memory=0))
            names = seen.gres.keys() | node.gres.keys()
            result[partition] = NodeSize(
                cpus=max(seen.cpus, node.cpus),
                memory=max(seen.memory, node.memory),
                gres={name: max(seen.gres.get(name, 0), node.gres.get(name, 0)) for name in names},
            )
    return result


def _gres(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for match in _GRES.finditer(text):
        found[match[1]] = found.get(match[1], 0) + int(match[2])
    return found
