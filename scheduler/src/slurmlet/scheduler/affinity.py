"""nodeSelector and required node affinity, as kube-scheduler reads them. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Object = Mapping[str, Any]


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
    return _all_match(expressions, labels) and _all_match(fields, {"metadata.name": name})


def _all_match(requirements: Iterable[Object], values: Mapping[str, str]) -> bool:
    return all(
        _OPERATORS.get(str(item.get("operator")), _never)(
            values.get(item["key"]), item.get("values") or []
        )
        for item in requirements
    )


def _compare(left: str | None, right: list[str], sign: int) -> bool:
    try:
        return left is not None and (int(left) - int(right[0])) * sign > 0
    except (ValueError, IndexError):
        return False


def _never(_value: str | None, _wanted: list[str]) -> bool:
    return False


_OPERATORS: Mapping[str, Callable[[str | None, list[str]], bool]] = {
    "In": lambda value, wanted: value in wanted,
    "NotIn": lambda value, wanted: value not in wanted,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
    "Gt": lambda value, wanted: _compare(value, wanted, 1),
    "Lt": lambda value, wanted: _compare(value, wanted, -1),
}
