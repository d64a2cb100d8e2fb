"""What a pod asks for that no waiting can give it on a node. Pure.

What is free now is Slurm's business: the pod's job waits in the queue for that.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from slurmlet.contracts.annotations import meaning, option_problem, read_annotations
from slurmlet.contracts.names import PREFIX, REQUEST_ANNOTATION
from slurmlet.contracts.quantity import QuantityError, parse
from slurmlet.contracts.request import RequestPolicy, effective_resources, overlaid, translate
from slurmlet.contracts.size import short, too_large
from slurmlet.contracts.wording import several
from slurmlet.scheduler.obstacle import Obstacle
from slurmlet.scheduler.partitions import largest, own_partition

Object = Mapping[str, Any]
Options = Mapping[str, str]

_LEAST = RequestPolicy(
    default_memory=0,
    pod_overhead_memory=0,
    gres={"nvidia.com/gpu": "gpu", "amd.com/gpu": "gpu"},
)
"""What a site adds to pods is not known here, so nothing is added. Of GPUs the node's capacity says
whose they are."""
_MACHINE = frozenset({"cpu", "memory", "ephemeral-storage"})
"""Compared with the largest machines, or, like disks, not at all."""
_HUGE_PAGES = "hugepages-"
_MOST_ANNOTATION = 64 * 1024
"""Characters of a request that is read: sbatch's options take a hundredth."""


Found = Iterator[tuple[list[str], str]]
"""Reasons, and the remedy for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a pod asks for: `options` of sbatch as its job is likely to have them, `partition` what
    the pod itself names, one or several or nothing, and `extended` resources of Kubernetes by name.
    """

    options: Options
    partition: str
    extended: Mapping[str, Fraction]


def demand(pod: Object) -> Demand:
    """What a pod asks for."""
    annotations = pod["metadata"].get("annotations") or {}
    said = read_annotations(annotations).options
    admitted = _admitted(annotations.get(REQUEST_ANNOTATION) or "")
    own = translate(pod, _LEAST).options
    return Demand(
        options=own if admitted is None else _by_now(admitted, said),
        partition=own.get("partition") or "",
        # Who asks Slurm itself for generic resources has said what the others stand for.
        extended={} if "gres" in said else _extended(pod["spec"]),
    )


def _by_now(admitted: Options, said: Options) -> Options:
    """The admitted request, in which a site may give more or less than a pod asks for, with what
    the annotations say otherwise: they may be changed until the pod is bound, and nobody is asked
    to admit that. One that was removed still counts."""
    fresh = {
        name: value for name, value in said.items() if not _granted(name, value, admitted.get(name))
    }
    return overlaid(admitted, fresh)


def _granted(name: str, value: str, admitted: str | None) -> bool:
    if admitted is None:
        return False
    # Of several partitions admission grants the one that the pod's node stands for.
    if name == "partition" and admitted in value.split(","):
        return True
    return meaning(name, value) == meaning(name, admitted)


def insufficient(demand: Demand, node: Object, *, running: int | None) -> Obstacle | None:
    """Whether the node can never have the pod; `running` pods count on it, None if not known."""
    reasons: list[str] = []
    remedies: list[str] = []
    for said, remedy in (
        *_pods(node, running),
        *_beyond_machines(demand, node),
        *_beyond_node(demand, node),
    ):
        # What no machine has enough of needs no second sentence about all of them.
        if fresh := [reason for reason in said if reason not in reasons]:
            reasons += fresh
            remedies.append(remedy)
    return Obstacle(reasons=tuple(reasons), remedies=tuple(remedies)) if reasons else None


def _pods(node: Object, running: int | None) -> Found:
    most = _amounts(node, "allocatable").get("pods") if running is not None else None
    if running is not None and most is not None and running + 1 > most:
        remedy = (
            f"the node takes {int(most)} pods at a time; the pod is bound when one of them has"
            " ended, or ask the administrator to raise kubelet.max_pods"
        )
        yield ["Too many pods"], remedy


def _beyond_node(demand: Demand, node: Object) -> Found:
    # What is down now comes back, so capacity counts; an agent that has not asked Slurm yet says 0.
    have = _amounts(node, "capacity") if demand.extended else {}
    if not have.get("cpu"):
        return
    lacking = [name for name, count in demand.extended.items() if count > have.get(name, 0)]
    pages = [name for name in lacking if name.startswith(_HUGE_PAGES)]
    unknown = [name for name in lacking if not have.get(name) and name not in pages]
    short = [name for name in lacking if have.get(name) and name not in pages]
    if pages:
        yield _insufficient(pages), f"{several(pages)}: pods have no huge pages; remove it"
    if unknown:
        others = [name for name in sorted(have) if "/" in name and have[name]]
        remedy = (
            f"{several(unknown)}: no resource of the node, which has {several(others) or 'none'};"
            f" remove it, or say what to ask of Slurm with the annotation {PREFIX}gres"
        )
        yield _insufficient(unknown), remedy
    if short:
        wanted = [f"{ceil(demand.extended[name])} {name}" for name in short]
        most = [f"{int(have[name])} {name}" for name in short]
        remedy = f"the pod asks for {several(wanted)}, the node has {several(most)}; ask for less"
        yield _insufficient(short), remedy


def _beyond_machines(demand: Demand, node: Object) -> Found:
    known = largest(node)
    own = own_partition(node)
    options, names = demand.options, demand.options.get("partition", "").split(",")
    among = [own] if own else [name for name in names if name]
    said = too_large(options, known, among=among)
    if said:
        kubernetes = {
            f"gres/{gres}": name for name, gres in _LEAST.gres.items() if name in demand.extended
        }
        sizes = [size for name in among or known for size in known[name]]
        names = sorted(short(options, sizes))
        yield _insufficient([kubernetes.get(name, name) for name in names]), said


def _insufficient(names: list[str]) -> list[str]:
    return [f"Insufficient {name}" for name in names]


def _amounts(node: Object, kind: str) -> Mapping[str, Fraction]:
    """A node's capacity or allocatable; what cannot be read is left out."""
    found = {}
    for name, text in ((node.get("status") or {}).get(kind) or {}).items():
        try:
            found[name] = parse(text)
        except QuantityError:
            continue
    return found


def _extended(spec: Object) -> Mapping[str, Fraction]:
    try:
        requests = effective_resources(spec, "requests")
    except QuantityError:
        return {}
    return {name: count for name, count in requests.items() if name not in _MACHINE and count > 0}


def _admitted(text: str) -> Options | None:
    """The options that admission wrote on the pod, if it did."""
    try:
        found = json.loads(text) if len(text) <= _MOST_ANNOTATION else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(isinstance(item, str) for item in found.values()):
        return None
    return {name: value for name, value in found.items() if not option_problem(name, value)}
