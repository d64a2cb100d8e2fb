"""Which partitions a pod chooses by choosing nodes (docs/contracts.md, Admission). Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slurmlet.contracts.aliases import SELECTOR_ALIASES
from slurmlet.contracts.names import (
    DEFAULT_PARTITION_LABEL,
    MAX_TIME_LABEL,
    PARTITION_LABEL,
    PREFIX,
)

_PARTITION_FACTS = (PARTITION_LABEL, MAX_TIME_LABEL, DEFAULT_PARTITION_LABEL)
_NAMES = ("kubernetes.io/hostname", "metadata.name")
"""What a node's own name is asked for by, in labels and in matchFields."""
_SELECTED = {*_PARTITION_FACTS, *_NAMES} - {PARTITION_LABEL}
"""Labels in a nodeSelector, beside the partition itself, by which it chooses among our nodes."""
_ALIKE = {
    "type",
    f"{PREFIX}cluster",
    *(f"{beta}kubernetes.io/{fact}" for beta in ("", "beta.") for fact in ("os", "arch")),
    *SELECTOR_ALIASES,
}
"""Labels that all our nodes have alike, or that admission takes out."""
_DEMANDING = ("In", "Exists", "Gt", "Lt")
"""Operators that no node without the label meets."""


def chosen_partitions(spec: Mapping[str, Any], nodes: Mapping[str, str]) -> tuple[str, ...] | None:
    """The partitions whose nodes a pod's affinity, and nodeSelector by a node's name or time limit,
    let it go to; none if that is not known, and None if they tell our nodes not apart. `nodes` are
    ours, by name, with the partition that each stands for, empty for the whole cluster."""
    selector = spec.get("nodeSelector") or {}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    always = [
        {"key": key, "operator": "In", "values": [value]}
        for key, value in selector.items()
        if key in _SELECTED
    ]
    listed: Sequence[Mapping[str, Any]] = required.get("nodeSelectorTerms") or [{}]
    terms = [
        [*always, *(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())]
        for term in listed
    ]
    if not any(_tells_apart(each, nodes) for term in terms for each in term):
        return None
    # One term is enough, so one that leaves all open opens all.
    found = [_of_term(term, nodes) for term in terms]
    if None in found:
        return ()
    return tuple(dict.fromkeys(name for names in found for name in names or ()))


def _tells_apart(requirement: Mapping[str, Any], nodes: Mapping[str, str]) -> bool:
    """Whether some of our nodes may meet it and others not."""
    key, demanding = requirement.get("key"), requirement.get("operator") in _DEMANDING
    if not any(nodes.values()):
        return key == PARTITION_LABEL
    if key in _NAMES:
        return demanding or any(name in nodes for name in requirement.get("values") or ())
    # Of all other labels nothing is known: an administrator may have given one to some nodes.
    return key in _PARTITION_FACTS or (demanding and key not in _ALIKE)


def _of_term(term: Iterable[Mapping[str, Any]], nodes: Mapping[str, str]) -> Iterable[str] | None:
    """The partitions that meet all of a term that we understand; None if that is nothing."""
    # Ordered, and looked up at once: a pod may name tens of thousands.
    names: dict[str, None] | None = None
    for each in term:
        meeting = _of_requirement(each, nodes)
        if meeting is not None:
            names = dict.fromkeys(name for name in meeting if names is None or name in names)
    return names


def _of_requirement(
    requirement: Mapping[str, Any], nodes: Mapping[str, str]
) -> Sequence[str] | None:
    if requirement.get("operator") != "In":
        return None
    values = requirement.get("values") or ()
    if requirement.get("key") == PARTITION_LABEL:
        return values
    if requirement.get("key") in _NAMES:
        names = [nodes[name] for name in values if name in nodes]
        return names if all(names) else None
    return None
