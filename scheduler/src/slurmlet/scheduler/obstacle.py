"""What keeps a pod off nodes, in kube-scheduler's form. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slurmlet.contracts.wording import in_one, some


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a pod cannot go to one node: `reasons` in kube-scheduler's words, which are counted over
    nodes, and `remedies`, which say what to do and are the same sentence for each such node."""

    reasons: tuple[str, ...]
    remedies: tuple[str, ...] = ()


def message(obstacles: Sequence[Obstacle], remedies: Iterable[str]) -> str:
    """What the author of a pod with an obstacle on each node is told."""
    counts = Counter(reason for obstacle in obstacles for reason in obstacle.reasons)
    # As text, so that 10 comes before 2, as in kube-scheduler's own messages.
    counted = ", ".join(some(sorted(f"{count} {reason}" for reason, count in counts.items())))
    said = in_one(some(dict.fromkeys(remedies)))
    return f"0/{len(obstacles)} nodes are available: {counted}." + (f" {said}." if said else "")
