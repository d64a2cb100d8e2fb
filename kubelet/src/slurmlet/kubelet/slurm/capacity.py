"""How large the virtual node is: Slurm's nodes, summed, and what partitions let jobs have. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from slurmlet.contracts.policy import NodeSize
from slurmlet.contracts.size import largest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmNode:
    """A node of Slurm; memory in MiB. `usable` says that Slurm may start jobs there, `state` is a
    word for people, `hostname` what the node calls itself. `cpus` and `memory` are all that the
    node has, `system_cpus` and `system_memory` what of it is never a job's (slurm.conf,
    CoreSpecCount, CpuSpecList and MemSpecLimit), `sockets` how many it has, 0 if that is not known.
    `gres` has each generic resource by its name, and by `NAME:TYPE`, too, where it has a type."""

    name: str
    address: str
    hostname: str = ""
    cpus: int
    memory: int
    usable: bool
    state: str = "idle"
    system_cpus: int = 0
    system_memory: int = 0
    sockets: int = 0
    gres: Mapping[str, int] = field(default_factory=dict)
    partitions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition's limits; None is no limit. `up` says that its jobs may start. `max_minutes` is
    the longest that a job may run, `max_memory_per_node` (MiB) the most that one job may have of a
    node, `max_cpus_per_node` and `max_cpus_per_socket` the most that all of its jobs together may.
    `max_memory_per_cpu` is in MiB."""

    name: str
    default: bool = False
    up: bool = True
    max_minutes: int | None = None
    max_cpus_per_node: int | None = None
    max_cpus_per_socket: int | None = None
    max_memory_per_node: int | None = None
    max_memory_per_cpu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What Slurm has, by name."""

    nodes: Mapping[str, SlurmNode] = field(default_factory=dict)
    partitions: Mapping[str, Partition] = field(default_factory=dict)

    def of(self, partition: str) -> "Inventory":
        """The same as if there was only this partition; everything, if it is empty."""
        if not partition:
            return self
        return Inventory(
            nodes={
                name: replace(node, partitions=(partition,))
                for name, node in self.nodes.items()
                if partition in node.partitions
            },
            partitions={name: item for name, item in self.partitions.items() if name == partition},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Sums over nodes; memory in MiB."""

    cpus: int
    memory: int
    gres: Mapping[str, int]


def total(inventory: Inventory) -> Capacity:
    """All that the nodes have, whatever their state."""
    return _sum(
        NodeSize(cpus=node.cpus, memory=node.memory, gres=node.gres)
        for node in inventory.nodes.values()
    )


def allocatable(inventory: Inventory) -> Capacity:
    """What jobs may have together: of nodes where Slurm may start jobs, by a partition that is up,
    without what is the system's or beyond the limits of each of the node's partitions."""
    return _sum(_jobs_share(inventory))


def largest(inventory: Inventory) -> dict[str, tuple[NodeSize, ...]]:
    """By partition, what one job may have of one node of it, whatever the node's state
    (`size.largest_of`)."""
    found: dict[str, list[NodeSize]] = {}
    for node in inventory.nodes.values():
        for name in node.partitions:
            found.setdefault(name, []).append(_of_one_job(node, _limits(inventory, name)))
    return {name: largest_of(sizes) for name, sizes in found.items()}


def states(inventory: Inventory) -> dict[str, int]:
    """The word for a state → how many nodes are in it."""
    return dict(Counter(node.state for node in inventory.nodes.values()))


def overlaps(inventory: Inventory, partition: str) -> dict[str, list[str]]:
    """Other partitions → the nodes that they share with this one."""
    shared: dict[str, list[str]] = {}
    for node in inventory.nodes.values():
        if partition in node.partitions:
            for other in node.partitions:
                if other != partition:
                    shared.setdefault(other, []).append(node.name)
    return {name: sorted(nodes) for name, nodes in sorted(shared.items())}


def _limits(inventory: Inventory, name: str) -> Partition:
    return inventory.partitions.get(name) or Partition(name=name)


def _jobs_share(inventory: Inventory) -> Iterator[NodeSize]:
    for node in inventory.nodes.values():
        ways = [_limits(inventory, name) for name in node.partitions]
        open_ways = [partition for partition in ways if partition.up]
        if node.usable and open_ways:
            yield NodeSize(
                cpus=max(_cpus(node, partition) for partition in open_ways),
                memory=node.memory - node.system_memory,
                gres=node.gres,
            )


def _of_one_job(node: SlurmNode, partition: Partition) -> NodeSize:
    cpus, memory = _cpus(node, partition), node.memory - node.system_memory
    if partition.max_memory_per_node is not None:
        memory = min(memory, partition.max_memory_per_node)
    if partition.max_memory_per_cpu is not None:
        # Who asks for more memory gets more CPUs with it (slurm.conf, MaxMemPerCPU).
        memory = min(memory, partition.max_memory_per_cpu * cpus)
    return NodeSize(cpus=cpus, memory=memory, gres=node.gres)


def _cpus(node: SlurmNode, partition: Partition) -> int:
    cpus = node.cpus - node.system_cpus
    if partition.max_cpus_per_node is not None:
        cpus = min(cpus, partition.max_cpus_per_node)
    if partition.max_cpus_per_socket is not None and node.sockets:
        cpus = min(cpus, partition.max_cpus_per_socket * node.sockets)
    return cpus


def _sum(sizes: Iterator[NodeSize]) -> Capacity:
    cpus = memory = 0
    gres: Counter[str] = Counter()
    for size in sizes:
        cpus, memory = cpus + size.cpus, memory + size.memory
        gres.update(size.gres)
    return Capacity(cpus=cpus, memory=memory, gres=dict(gres))
