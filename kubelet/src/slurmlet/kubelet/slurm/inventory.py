"""Reads what sinfo and scontrol say of nodes and partitions. Pure.

sinfo's list decides which nodes there are, by fields that hold no free text. What a node keeps from
jobs only `scontrol show node` has, in which comments and reasons stand as administrators wrote
them, newlines included: they may hold what looks like another node. So nothing that stands there
adds a node, makes one larger, or spoils the answer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from slurmlet.contracts.size import count_of
from slurmlet.kubelet.slurm import nodestates
from slurmlet.kubelet.slurm.capacity import Inventory, Partition, SlurmNode

NODE_FIELDS = ",".join(
    f"{name}:|"
    for name in (
        *("NodeList", "Partition", "CPUs", "Memory"),
        *("StateComplete", "NodeAddr", "NodeHost", "Gres"),
    )
)
"""For sinfo's option -O."""

_LISTED = re.compile(
    r"(?P<name>[^|]+)\|(?P<partition>[^|]+)\|(?P<cpus>\d{1,9})\|(?P<memory>\d{1,15})"
    r"\|(?P<state>[^|]+)\|(?P<address>[^|]*)\|(?P<hostname>[^|]*)\|(?P<gres>[^|]*)\|"
)
_NODE = re.compile(r"NodeName=(\S+) ")
_FOR_JOBS = re.compile(r"   CPUAlloc=\d+ CPUEfctv=(\d{1,9}) ")
_SOCKETS = re.compile(r"   RealMemory=\d+ .* Sockets=([1-9]\d{0,5}) Boards=\d+ *")
_KEPT_BACK = re.compile(r"   (?:CoreSpecCount=\d+ )?(?:CPUSpecList=\S* )?MemSpecLimit=(\d{1,15}) *")
_STATE = "   State="
_PARTITION = re.compile(r"^PartitionName=(\S+)$", re.MULTILINE)
_MEMORY = re.compile(r"^(MaxMemPer(?:Node|CPU)) += (\S+)$", re.MULTILINE)
_PAIR = re.compile(r"(\w+)=(\S*)")
_TIME = re.compile(r"(?:(\d{1,6})-)?(\d{1,4}):(\d\d):(\d\d)")


class InventoryError(Exception):
    """An answer that cannot be read; nothing is known from it."""


@dataclass(frozen=True, slots=True)
class _ForJobs:
    """What one block says that jobs may have: CPUs, and memory (MiB) that they may not; and the
    node's sockets."""

    cpus: int
    kept_memory: int
    sockets: int


def parse(*, listed: str, nodes: str, partitions: str, settings: str) -> Inventory:
    """What Slurm has, by sinfo's list (a line for each node and partition) and what `scontrol show
    node`, `scontrol show partition` and `scontrol show config` say.

    Raises:
        InventoryError: one of them cannot be read.
    """
    rows = [_row(line) for line in listed.splitlines()]
    details, limits = _details(nodes), _partitions(partitions, _memory_of_site(settings))
    if rows and not details:
        raise InventoryError("scontrol show node: no node in the answer")
    if rows and not limits:
        raise InventoryError("scontrol show partition: no partition in the answer")
    memberships: dict[str, list[str]] = {}
    for row in rows:
        memberships.setdefault(row["name"], []).append(row["partition"].removesuffix("*"))
    return Inventory(
        nodes={
            row["name"]: _node(row, memberships[row["name"]], details.get(row["name"]))
            for row in rows
        },
        partitions=limits,
    )


def _row(line: str) -> dict[str, str]:
    match = _LISTED.fullmatch(line)
    if match is None:
        raise InventoryError(f"sinfo: a line that is no node: {line[:80]!r}")
    return match.groupdict()


def _node(row: dict[str, str], partitions: list[str], found: _ForJobs | None) -> SlurmNode:
    flags = nodestates.flags_of(row["state"])
    cpus, memory = int(row["cpus"]), int(row["memory"])
    return SlurmNode(
        name=row["name"],
        address=row["address"],
        hostname=row["hostname"],
        cpus=cpus,
        memory=memory,
        usable=nodestates.usable(flags),
        state=nodestates.word(flags),
        system_cpus=max(cpus - found.cpus, 0) if found else 0,
        system_memory=min(found.kept_memory, memory) if found else 0,
        sockets=found.sockets if found else 0,
        gres=_gres(row["gres"]),
        partitions=tuple(partitions),
    )


def _details(text: str) -> dict[str, _ForJobs]:
    """By node, what jobs may have; of several blocks about one node what leaves them most, which
    sinfo's CPUs and memory bound, and the fewest sockets, which nothing else does."""
    found: dict[str, _ForJobs] = {}
    name, cpus, kept, sockets = "", None, 0, 0
    for line in text.splitlines():
        if match := _NODE.match(line):
            name, cpus, kept, sockets = match[1], None, 0, 0
        elif name and cpus is None and (match := _FOR_JOBS.match(line)):
            cpus = int(match[1])
        elif name and not sockets and (match := _SOCKETS.fullmatch(line)):
            sockets = int(match[1])
        elif name and (match := _KEPT_BACK.fullmatch(line)):
            kept = int(match[1])
        elif name and line.startswith(_STATE):
            # The rest of a block may be anybody's words.
            if cpus is not None:
                before = found.get(name, _ForJobs(cpus, kept, sockets))
                found[name] = _ForJobs(
                    cpus=max(before.cpus, cpus),
                    kept_memory=min(before.kept_memory, kept),
                    sockets=min(before.sockets, sockets),
                )
            name = ""
    return found


def _memory_of_site(settings: str) -> dict[str, str]:
    match = _MEMORY.search(settings)
    if match is None:
        raise InventoryError("scontrol show config: neither MaxMemPerNode nor MaxMemPerCPU in it")
    return {match[1]: match[2]}


def _partitions(text: str, memory_of_site: Mapping[str, str]) -> dict[str, Partition]:
    found: dict[str, Partition] = {}
    pieces = _PARTITION.split(text)
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        fields: dict[str, str] = {}
        for key, value in _PAIR.findall(body):
            fields.setdefault(key, value)
        # UNLIMITED memory per node is what the site limits (job_mgr.c, _valid_pn_min_mem); that
        # per CPU is a limit of 0, which lifts the site's.
        own = "MaxMemPerCPU" in fields or _limit(fields, "MaxMemPerNode")
        memory = fields if own else memory_of_site
        found[name] = Partition(
            name=name,
            default=fields.get("Default") == "YES",
            up=fields.get("State", "UP") == "UP",
            max_minutes=_minutes(fields.get("MaxTime", "")),
            max_cpus_per_node=_limit(fields, "MaxCPUsPerNode"),
            max_cpus_per_socket=_limit(fields, "MaxCPUsPerSocket"),
            max_memory_per_node=_limit(memory, "MaxMemPerNode") or None,
            max_memory_per_cpu=_limit(memory, "MaxMemPerCPU") or None,
        )
    return found


def _limit(fields: Mapping[str, str], key: str) -> int | None:
    value = fields.get(key, "")
    return int(value) if re.fullmatch(r"\d{1,15}", value) else None


def _minutes(text: str) -> int | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, _ = (int(word or 0) for word in match.groups())
    return (days * 24 + hours) * 60 + minutes


def _gres(text: str) -> dict[str, int]:
    """`gpu:a100:4(S:0-1),disk:no_consume:2G,fpga`: counts by name, and by name and type. Where no
    count stands it is 1; one that Slurm cannot read, either, counts as nothing."""
    found: dict[str, int] = {}
    for item in re.sub(r"\([^)]*\)", "", text).split(","):
        name, *words = item.split(":")
        number = 1
        if words and words[-1][:1].isdecimal():
            number = count_of(words.pop()) or 0
        kinds = [f"{name}:{word}" for word in words if word.lower() not in ("", "no_consume")]
        for key in (name, *kinds):
            if name and number:
                found[key] = found.get(key, 0) + number
    return found
