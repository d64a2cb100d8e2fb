"""Which partitions a pod chooses by choosing nodes (docs/contracts.md, Admission). Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slurmlet.contracts.names import PARTITION_LABEL

_KEYS = frozenset({PARTITION_LABEL})


def chosen_partitions(spec: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The partitions whose nodes a pod's affinity lets it go to; none if that may be any, and None
    if it does not speak of them."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [term.get("matchExpressions") or () for term in required.get("nodeSelectorTerms") or ()]
    if not any(each.get("key") in _KEYS for term in terms for each in term):
        return None
    # One term is enough, so one that leaves all open opens all.
    found = [_of_term(term) for term in terms]
    if None in found:
        return ()
    return tuple(dict.fromkeys(name for names in found for name in names or ()))


def _of_term(term: Iterable[Mapping[str, Any]]) -> Sequence[str] | None:
    """The partitions that meet all of a term that we understand; None if that is nothing."""
    names: Sequence[str] | None = None
    for each in term:
        meeting = _of_expression(each)
        if meeting is not None:
            names = [name for name in meeting if names is None or name in names]
    return names


def _of_expression(expression: Mapping[str, Any]) -> Sequence[str] | None:
    if expression.get("key") != PARTITION_LABEL or expression.get("operator") != "In":
        return None
    return expression.get("values") or ()
