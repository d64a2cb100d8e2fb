"""Which partitions a pod chooses by choosing nodes (docs/contracts.md, Admission). Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slurmlet.contracts.names import PARTITION_LABEL

_HOSTNAME = "kubernetes.io/hostname"
_NAMES = (_HOSTNAME, "metadata.name")
"""What a node's own name is asked for by, in labels and in matchFields."""


def chosen_partitions(spec: Mapping[str, Any], nodes: Mapping[str, str]) -> tuple[str, ...] | None:
    """The partitions whose nodes a pod's affinity, and nodeSelector by a node's name, let it go to;
    none if that may be any, and None if they do not speak of that. `nodes` are ours, by name, with
    the partition that each stands for, empty for the whole cluster."""
    host = (spec.get("nodeSelector") or {}).get(_HOSTNAME)
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    always = [{"key": _HOSTNAME, "operator": "In", "values": [host]}] if host else []
    listed: Sequence[Mapping[str, Any]] = required.get("nodeSelectorTerms") or [{}]
    terms = [
        [*always, *(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())]
        for term in listed
    ]
    spoken = (PARTITION_LABEL, *(_NAMES if any(nodes.values()) else ()))
    if not any(each.get("key") in spoken for term in terms for each in term):
        return None
    # One term is enough, so one that leaves all open opens all.
    found = [_of_term(term, nodes) for term in terms]
    if None in found:
        return ()
    return tuple(dict.fromkeys(name for names in found for name in names or ()))


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
