"""What a job asks of one node, beside what nodes have (docs/contracts.md, Admission).

Slurm alone decides; this says early, and in figures, what it cannot grant.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from slurmlet.contracts.annotations import kib
from slurmlet.contracts.policy import NodeSize

Sizes = Mapping[str, Sequence[NodeSize]]
"""By partition, what its nodes have, without those that have less of everything than another; empty
where that is not known."""

MOST_SIZES = 8
"""Of a partition, so that the annotation of a node that stands for a hundred stays below the
256 KiB that Kubernetes allows. Of more, those with fewest CPUs become one that has the most of each
resource: what is not known denies nothing."""
_MOST_SAID = 4
"""Sizes in a sentence."""
_COUNT = re.compile(r"(\d{1,18})(\D{0,3})", re.ASCII)
_SUFFIXES = {"": 1} | {
    unit + end: base**power
    for power, unit in enumerate("kmgtp", start=1)
    for end, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
"""Of Slurm's counts, in lower case (slurm_protocol_defs.c, suffix_mult)."""
_WORDS = {"cpu": "CPUs", "memory": "MiB of memory"}
_ASKING = {"cpu": ("cpus-per-task", "ntasks"), "memory": ("mem", "mem-per-cpu")}
_ASKING_GENERIC = ("gres", "gpus")
"""Options that ask for a resource, and for any other one."""


def too_large(options: Mapping[str, str], sizes: Sizes, *, among: Sequence[str] = ()) -> str | None:
    """Why no node of the partitions `among`, or of any without one, can have a job of these
    options; None if one may, or if not all of these partitions are known."""
    known = [sizes.get(name, ()) for name in among or sizes]
    if not known or not all(known):
        return None
    chosen = [size for item in known for size in item]
    wanted = _wanted(options, chosen)
    if any(not _over(wanted, size) for size in chosen):
        return None
    return figures(options, sizes, among=among)


def figures(options: Mapping[str, str], sizes: Sizes, *, among: Sequence[str] = ()) -> str:
    """What is asked for beside the most that nodes have, and what to do; empty if nothing is known
    of nodes."""
    named = [name for name in among if name in sizes]
    chosen = [size for name in named or sizes for size in sizes[name]]
    if not chosen:
        return ""
    where = f" of partition {','.join(named)}" if named else ""
    wanted = _wanted(options, chosen)
    fitting = [size for size in chosen if not _over(wanted, size)]
    names = _shown(options, chosen)
    have = front(_only(size, names) for size in fitting or chosen)
    said = [_list(_counts(size), names) for size in have]
    if fitting or len(said) == 1:
        most = f"the largest node{where} has {said[0]}"
    else:
        rest = ", or others" if len(said) > _MOST_SAID else ""
        listed = ", or ".join(said[:_MOST_SAID])
        most = f"but no node{where} has all of it: the largest have {listed}{rest}"
    return (
        f"the pod asks for {_list(wanted, names)} (its overhead included), {most};"
        " ask for less, or for a partition with larger nodes"
    )


def asking(options: Mapping[str, str], sizes: Sizes, *, among: Sequence[str] = ()) -> list[str]:
    """Those of the options that ask for what `figures` shows."""
    shown = _shown(options, [size for name in among or sizes for size in sizes.get(name, ())])
    names = (name for resource in shown for name in _ASKING.get(resource, _ASKING_GENERIC))
    return [name for name in dict.fromkeys(names) if name in options]


def short(options: Mapping[str, str], sizes: Sequence[NodeSize]) -> list[str]:
    """The resources (`cpu`, `memory`, `gres/NAME`, `gres/NAME:TYPE`) that none of the sizes has
    enough of for these options, or else those that some have not."""
    wanted = _wanted(options, sizes)
    over = [_over(wanted, size) for size in sizes]
    nowhere = [name for name in wanted if all(name in names for names in over)]
    found = nowhere or [name for name in wanted if any(name in names for names in over)]
    # Of what there is too little of a type, the sum says less.
    typed = {name.partition(":")[0] for name in found if ":" in name}
    return [name for name in found if name not in typed]


def front(sizes: Iterable[NodeSize]) -> list[NodeSize]:
    """Those that no other one has as much of everything as, most CPUs first: what fits one of all
    fits one of these."""
    found: list[NodeSize] = []
    unique = {_order(size): size for size in sizes}
    for _, size in sorted(unique.items(), reverse=True):
        if not any(_covers(other, size) for other in found):
            found = [*(other for other in found if not _covers(size, other)), size]
    return found


def largest_of(sizes: Iterable[NodeSize]) -> tuple[NodeSize, ...]:
    """`front`, but no more than `MOST_SIZES`: what fits one of all fits one of these."""
    found = front(sizes)
    if len(found) > MOST_SIZES:
        kept, rest = found[: MOST_SIZES - 1], found[MOST_SIZES - 1 :]
        found = front([*kept, _most(rest)])
    return tuple(found)


def count_of(text: str) -> int | None:
    """A count of generic resources as Slurm reads it, such as `4` or `2K`; None if it is none."""
    match = _COUNT.fullmatch(text)
    factor = _SUFFIXES.get(match[2].lower()) if match else None
    return int(match[1]) * factor if match and factor else None


def asked(options: Mapping[str, str]) -> NodeSize:
    """What sbatch's options ask of the one node of a job: of generic resources with a type by name,
    and by `NAME:TYPE`, too."""
    cpus = _number(options.get("cpus-per-task")) * _number(options.get("ntasks"))
    if "mem-per-cpu" in options and "mem" not in options:
        memory = kib(options["mem-per-cpu"]) // 1024 * cpus
    else:
        memory = kib(options.get("mem", "")) // 1024
    gres: Counter[str] = Counter()
    gpus = f"gpu:{options['gpus']}" if options.get("gpus") else ""
    for item in (*options.get("gres", "").split(","), gpus):
        # The word "none" asks for nothing (sbatch's --gres).
        if item.lower() == "none":
            continue
        name, *words = re.split("[:=/]", item.removeprefix("gres/"))
        count = count_of(words[-1]) if words else None
        kinds = words[:1] if count is None else words[:-1]
        if name:
            keys = [name, *(f"{name}:{kind}" for kind in kinds)]
            gres.update(dict.fromkeys(keys, 1 if count is None else count))
    return NodeSize(cpus=cpus, memory=memory, gres=dict(gres))


def _wanted(options: Mapping[str, str], sizes: Sequence[NodeSize]) -> dict[str, int]:
    """Counts by resource; those of a type only where one of these sizes tells types."""
    typed = {name.partition(":")[0] for size in sizes for name in _counts(size) if ":" in name}
    return {
        name: count
        for name, count in _counts(asked(options)).items()
        if ":" not in name or name.partition(":")[0] in typed
    }


def _counts(size: NodeSize) -> dict[str, int]:
    gres = {f"gres/{name}": count for name, count in size.gres.items()}
    return {"cpu": size.cpus, "memory": size.memory, **gres}


def _over(wanted: Mapping[str, int], size: NodeSize) -> list[str]:
    have = _counts(size)
    return [name for name, count in wanted.items() if count > have.get(name, 0)]


def _shown(options: Mapping[str, str], sizes: Sequence[NodeSize]) -> list[str]:
    """What no size has enough of, or, where one has all, what is asked for."""
    wanted = _wanted(options, sizes)
    if all(_over(wanted, size) for size in sizes):
        return short(options, sizes)
    return [name for name in wanted if wanted[name]]


def _covers(one: NodeSize, other: NodeSize) -> bool:
    return (
        one.cpus >= other.cpus
        and one.memory >= other.memory
        and all(one.gres.get(name, 0) >= count for name, count in other.gres.items())
    )


def _order(size: NodeSize) -> tuple[int, int, tuple[tuple[str, int], ...]]:
    return (size.cpus, size.memory, tuple(sorted(size.gres.items())))


def _only(size: NodeSize, names: Sequence[str]) -> NodeSize:
    """A size by these resources alone."""
    return NodeSize(
        cpus=size.cpus if "cpu" in names else 0,
        memory=size.memory if "memory" in names else 0,
        gres={name: count for name, count in size.gres.items() if f"gres/{name}" in names},
    )


def _list(counts: Mapping[str, int], names: Sequence[str]) -> str:
    return ", ".join(
        f"{counts.get(name, 0)} {_WORDS.get(name, name.removeprefix('gres/'))}" for name in names
    )


def _most(sizes: Sequence[NodeSize]) -> NodeSize:
    names = {name for size in sizes for name in size.gres}
    return NodeSize(
        cpus=max(size.cpus for size in sizes),
        memory=max(size.memory for size in sizes),
        gres={name: max(size.gres.get(name, 0) for size in sizes) for name in names},
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 1
