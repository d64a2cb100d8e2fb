"""Which node a pod goes to, or why it goes nowhere. Pure.

Slurm decides on which machine a pod runs, and when; here only what users say about nodes is
checked, and what no waiting can give. What does not fit now waits in Slurm's queue. Where pods are
to be beside each other, and which ports of machines they want, is no obstacle: the machines are
not known yet, and of both the author has been told (contracts/podfields.py).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slurmlet.contracts.names import DEFAULT_PARTITION_LABEL
from slurmlet.scheduler.obstacle import Obstacle, message
from slurmlet.scheduler.partitions import labels
from slurmlet.scheduler.resources import Demand, demand, insufficient
from slurmlet.scheduler.selection import advice, unmet, wishes
from slurmlet.scheduler.storage import unclaimable
from slurmlet.scheduler.taints import cordoned, untolerated

Object = Mapping[str, Any]

_NO_NODES = (
    "no nodes available to schedule pods. the agent has not registered its node; wait, or ask the"
    " administrator."
)
_NOT_SELECTED = Obstacle(reasons=("node(s) didn't match Pod's node affinity/selector",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The node to bind to, or None and a sentence for the pod's author."""

    node: str | None = None
    reason: str = ""


def is_ours(pod: Object, names: Collection[str]) -> bool:
    """Whether this pod waits for a scheduler of one of these names."""
    spec = pod["spec"]
    return (
        spec.get("schedulerName", "default-scheduler") in names
        and not spec.get("nodeName")
        and not spec.get("schedulingGates")
        and not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase", "Pending") == "Pending"
    )


def verdict(
    pod: Object, nodes: Iterable[Object], *, running: Mapping[str, int] | None = None
) -> Verdict:
    """The first node that the pod may go to: of Slurm's default partition first, then by name.

    `running` has the number of pods that count on each node: bound to it, and not ended. Of a
    node that it leaves out the number is not known.
    """
    spec = pod["spec"]
    wanted = demand(pod)
    chosen = wishes(spec, partition=wanted.partition)
    ordered = sorted(nodes, key=_order)
    found: list[Obstacle] = []
    lacking: list[tuple[str, ...]] = []
    for node in ordered:
        name = _name(node)
        missed = unmet(chosen, node)
        count = (running or {}).get(name)
        obstacle = _obstacle(spec, wanted, node, is_selected=not missed, running=count)
        if obstacle is None:
            return Verdict(node=name)
        found.append(obstacle)
        lacking.append(missed)
    if not found:
        return Verdict(reason=_NO_NODES)
    # Remedies for nodes that the pod does not want anyway would mislead.
    remedies = [
        remedy
        for obstacle, missed in zip(found, lacking, strict=True)
        if not missed or all(lacking)
        for remedy in obstacle.remedies
    ]
    if all(lacking):
        remedies.insert(0, advice(lacking, ordered))
    return Verdict(reason=message(found, remedies))


def _obstacle(
    spec: Object, wanted: Demand, node: Object, *, is_selected: bool, running: int | None
) -> Obstacle | None:
    """The first in kube-scheduler's order."""
    node_spec = node.get("spec") or {}
    return (
        cordoned(node_spec, spec)
        or untolerated(node_spec, spec)
        or (None if is_selected else _NOT_SELECTED)
        or insufficient(wanted, node, running=running)
        or unclaimable(spec)
    )


def _order(node: Object) -> tuple[bool, str]:
    return labels(node).get(DEFAULT_PARTITION_LABEL) != "true", _name(node)


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])
