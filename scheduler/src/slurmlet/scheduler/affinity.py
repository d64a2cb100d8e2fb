"""Required node affinity, as kube-scheduler reads it. Pure."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from slurmlet.scheduler.numbers import int64

Object = Mapping[str, Any]
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def required_terms_match(spec: Object, *, labels: Mapping[str, str], name: str) -> bool:
    """Whether a node meets one of the pod's required node affinity terms, or there are none."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(
        _term_matches(term, labels=labels, name=name)
        for term in required.get("nodeSelectorTerms") or ()
    )


def _term_matches(term: Object, *, labels: Mapping[str, str], name: str) -> bool:
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    # A term that says nothing selects no node (core/v1 NodeSelectorTerm).
    if not expressions and not fields:
        return False
    return all(_label_matches(item, labels) for item in expressions) and all(
        _field_matches(item, name) for item in fields
    )


def _label_matches(requirement: Object, labels: Mapping[str, str]) -> bool:
    values = requirement.get("values") or []
    # kube-scheduler's parser refuses such values, and then the whole term matches nothing: NotIn,
    # too. The API server lets them through in objects from before it looked.
    if not all(_LABEL_VALUE.fullmatch(value) for value in values):
        return False
    test = _OPERATORS.get(requirement.get("operator") or "")
    return test is not None and test(labels.get(requirement.get("key") or ""), values)


def _field_matches(requirement: Object, name: str) -> bool:
    values = requirement.get("values") or []
    if requirement.get("key") != "metadata.name" or len(values) != 1:
        return False
    if requirement.get("operator") == "In":
        return bool(values[0] == name)
    return requirement.get("operator") == "NotIn" and values[0] != name


def _difference(value: str | None, wanted: list[str]) -> int:
    """Positive if a label is greater than the one number wanted, 0 if they cannot be compared."""
    left = int64(value) if value is not None else None
    right = int64(wanted[0]) if len(wanted) == 1 else None
    return 0 if left is None or right is None else left - right


_OPERATORS: Mapping[str, Callable[[str | None, list[str]], bool]] = {
    "In": lambda value, wanted: value in wanted,
    "NotIn": lambda value, wanted: bool(wanted) and value not in wanted,
    "Exists": lambda value, wanted: value is not None and not wanted,
    "DoesNotExist": lambda value, wanted: value is None and not wanted,
    "Gt": lambda value, wanted: _difference(value, wanted) > 0,
    "Lt": lambda value, wanted: _difference(value, wanted) < 0,
}
