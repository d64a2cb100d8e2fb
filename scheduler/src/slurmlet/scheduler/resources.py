"""What a pod asks for that no waiting can give it on a node. Pure.

What is free now is Slurm's business: the pod's job waits in the queue for that.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from slurmlet.contracts.annotations import option_problem, read_annotations
from slurmlet.contracts.names import PREFIX, REQUEST_ANNOTATION
from slurmlet.contracts.quantity import QuantityError, parse
from slurmlet.contracts.request import RequestPolicy, effective_resources, translate
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
    """What a pod asks for: `options` of sbatch by the pod itself, and as admission saw them by the
    site's settings, if it did and they still hold; `extended` resources of Kubernetes by name."""

    options: Options
    admitted: Options | None = None
    extended: Mapping[str, Fraction]

    @property
    def partition(self) -> str:
        """The partitions that the job may go to, or nothing if the site decides."""
        return self.options.get("partition") or ""


def demand(pod: Object) -> Demand:
    """What a pod asks for."""
    annotations = pod["metadata"].get("annotations") or {}
    said = read_annotations(annotations).options
    admitted = _admitted(annotations.get(REQUEST_ANNOTATION) or "")
    # Annotations may be changed until the pod is bound, and nobody is asked to admit that.
    changed = admitted is not None and any(
        admitted.get(name) != value for name, value in said.items()
    )
    return Demand(
        options=translate(pod, _LEAST).options,
        admitted=None if changed else admitted,
        # Who asks Slurm itself for generic resources has said what the others stand for.
        extended={} if "gres" in said else _extended(pod["spec"]),
    )


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
    # A site may give a job more or less than its pod asks for.
    options = demand.options if demand.admitted is None else demand.admitted
    among = [own] if own else [name for name in options.get("partition", "").split(",") if name]
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
