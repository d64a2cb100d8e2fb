"""What a job asks of one node, beside the most that nodes have (docs/contracts.md, Admission).

Slurm alone decides; this says early, and in figures, what it cannot grant.
"""

import re
from collections.abc import Mapping, Sequence

from slurmlet.contracts.annotations import kib
from slurmlet.contracts.policy import NodeSize

_GRES = re.compile(r"(?:gres/)?([A-Za-z][A-Za-z0-9_]*)(?:[:/][A-Za-z][^:=,]*)?(?:[:=](\d+))?")
_ASKING = {"CPUs": ("cpus-per-task", "ntasks"), "MiB of memory": ("mem", "mem-per-cpu")}
_ASKING_GENERIC = ("gres", "gpus")
"""Options that ask for what is counted so, and for everything else."""


def too_large(
    options: Mapping[str, str], sizes: Mapping[str, NodeSize], *, among: Sequence[str] = ()
) -> str | None:
    """Why no node of the partitions `among`, or of any without one, can have a job of these
    options; None if one may, or if not all of these partitions are known."""
    chosen = [sizes[name] for name in (among or sizes) if name in sizes]
    if not chosen or len(chosen) < len(among):
        return None
    wanted = _counts(asked(options))
    if any(not _over(wanted, size) for size in chosen):
        return None
    return figures(options, sizes, among=among)


def figures(
    options: Mapping[str, str], sizes: Mapping[str, NodeSize], *, among: Sequence[str] = ()
) -> str:
    """What is asked for beside the most that one node has, and what to do; empty if nothing is
    known of nodes."""
    if not sizes:
        return ""
    named = [name for name in among if name in sizes]
    where = f" of partition {','.join(named)}" if named else ""
    wanted, most = _counts(asked(options)), _largest(sizes, among)
    have, shown = _counts(most), _shown(wanted, most)
    return (
        f"the pod asks for {_list(wanted, shown)} (its overhead included), the largest node{where}"
        f" has {_list(have, shown)}; ask for less, or for a partition with larger nodes"
    )


def asking(
    options: Mapping[str, str], sizes: Mapping[str, NodeSize], *, among: Sequence[str] = ()
) -> list[str]:
    """Those of the options that ask for what `figures` shows."""
    shown = _shown(_counts(asked(options)), _largest(sizes, among))
    names = (name for count in shown for name in _ASKING.get(count, _ASKING_GENERIC))
    return [name for name in dict.fromkeys(names) if name in options]


def asked(options: Mapping[str, str]) -> NodeSize:
    """What sbatch's options ask of the one node of a job."""
    cpus = _number(options.get("cpus-per-task")) * _number(options.get("ntasks"))
    if "mem-per-cpu" in options and "mem" not in options:
        memory = kib(options["mem-per-cpu"]) // 1024 * cpus
    else:
        memory = kib(options.get("mem", "")) // 1024
    gres: dict[str, int] = {}
    for item in options.get("gres", "").split(","):
        match = _GRES.fullmatch(item)
        # The word "none" asks for nothing (sbatch's --gres).
        if match and item.lower() != "none":
            gres[match[1]] = gres.get(match[1], 0) + int(match[2] or 1)
    gpus = re.search(r"(?:^|:)(\d+)$", options.get("gpus", ""))
    if gpus:
        gres["gpu"] = gres.get("gpu", 0) + int(gpus[1])
    return NodeSize(cpus=cpus, memory=memory, gres=gres)


def _counts(size: NodeSize) -> dict[str, int]:
    return {"CPUs": size.cpus, "MiB of memory": size.memory, **size.gres}


def _over(wanted: Mapping[str, int], size: NodeSize) -> list[str]:
    have = _counts(size)
    return [name for name, count in wanted.items() if count > have.get(name, 0)]


def _shown(wanted: Mapping[str, int], most: NodeSize) -> list[str]:
    return _over(wanted, most) or [name for name, count in wanted.items() if count]


def _list(counts: Mapping[str, int], names: list[str]) -> str:
    return ", ".join(f"{counts.get(name, 0)} {name}" for name in names)


def _largest(known: Mapping[str, NodeSize], among: Sequence[str]) -> NodeSize:
    """The most of each resource, on whichever node of these partitions, or of any."""
    sizes = [known[name] for name in among if name in known] or [*known.values()]
    names = {name for size in sizes for name in size.gres}
    return NodeSize(
        cpus=max(size.cpus for size in sizes),
        memory=max(size.memory for size in sizes),
        gres={name: max(size.gres.get(name, 0) for size in sizes) for name in names},
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 1
