"""What Slurm's refusal of a job means to the pod's author: figures and a remedy. Pure.

Slurm alone decides; what is said here of its nodes explains a refusal and causes none.
"""

import re
from collections.abc import Mapping

from slurmlet.kubelet.slurm.capacity import Capacity, SlurmNode, largest

_TOO_LARGE = (
    "node configuration is not available",
    "memory specification can not be satisfied",
    "invalid generic resource",
)
_REMEDIES = {
    "invalid account": "choose an account of yours with the annotation slurmlet.io/account, or ask"
    " the administrator to add user {user} to one (sacctmgr add user)",
    "invalid partition": "change the annotation slurmlet.io/partition; sinfo lists partitions",
    "invalid qos": "change the annotation slurmlet.io/qos; sacctmgr show assoc lists yours",
    "time limit": "ask for less time with the annotation slurmlet.io/time",
    "reservation": "change the annotation slurmlet.io/reservation; scontrol show res lists them",
}
_GRES = re.compile(r"(?:gres/)?([A-Za-z][A-Za-z0-9_]*)(?:[:/][A-Za-z][^:=,]*)?(?:[:=](\d+))?")
_UNITS = {"": 1024, "M": 1024, "K": 1, "G": 1024**2, "T": 1024**3}
"""KiB of sbatch's units."""


def explain(
    message: str, *, options: Mapping[str, str], user: str, nodes: Mapping[str, SlurmNode]
) -> str:
    """Slurm's words with what was asked for, what there is, and what to do."""
    lower = message.lower()
    if any(words in lower for words in _TOO_LARGE):
        figures = _figures(options, nodes)
        return f"{message}; {figures}" if figures else message
    for words, remedy in _REMEDIES.items():
        if words in lower:
            return f"{message}; {remedy.format(user=user)}"
    return message


def _figures(options: Mapping[str, str], nodes: Mapping[str, SlurmNode]) -> str:
    """What is asked for beside the most that one node has; empty if nothing is known of nodes."""
    sizes = largest(dict(nodes))
    wanted = [name for name in options.get("partition", "").split(",") if name in sizes]
    if not sizes:
        return ""
    most = _most([sizes[name] for name in wanted or sizes])
    where = f" of partition {','.join(wanted)}" if wanted else ""
    asked = {"CPUs": _cpus(options), "MiB of memory": _memory(options), **_gres(options)}
    have = {"CPUs": most.cpus, "MiB of memory": most.memory, **most.gres}
    over = [name for name, count in asked.items() if count > have.get(name, 0)]
    shown = over or [name for name, count in asked.items() if count]
    return (
        f"the pod asks for {_list(asked, shown)} (its overhead included), the largest node{where}"
        f" has {_list(have, shown)}; ask for less, or for a partition with larger nodes"
    )


def _list(counts: Mapping[str, int], names: list[str]) -> str:
    return ", ".join(f"{counts.get(name, 0)} {name}" for name in names)


def _most(sizes: list[Capacity]) -> Capacity:
    names = {name for size in sizes for name in size.gres}
    return Capacity(
        cpus=max(size.cpus for size in sizes),
        memory=max(size.memory for size in sizes),
        gres={name: max(size.gres.get(name, 0) for size in sizes) for name in names},
    )


def _cpus(options: Mapping[str, str]) -> int:
    return _number(options.get("cpus-per-task")) * _number(options.get("ntasks"))


def _memory(options: Mapping[str, str]) -> int:
    if "mem-per-cpu" in options and "mem" not in options:
        return _mib(options["mem-per-cpu"]) * _cpus(options)
    return _mib(options.get("mem", ""))


def _mib(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMGT]?)", text)
    return int(match[1]) * _UNITS[match[2]] // 1024 if match else 0


def _gres(options: Mapping[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in options.get("gres", "").split(","):
        match = _GRES.fullmatch(item)
        if match:
            found[match[1]] = found.get(match[1], 0) + int(match[2] or 1)
    gpus = re.search(r"(?:^|:)(\d+)$", options.get("gpus", ""))
    if gpus:
        found["gpu"] = found.get("gpu", 0) + int(gpus[1])
    return found


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 1
