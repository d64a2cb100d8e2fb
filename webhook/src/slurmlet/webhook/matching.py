"""What registration, guard and defaults say of the requests that they are about, with every default
of the API server written out. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

Object = dict[str, Any]


def rule(
    resources: Sequence[str],
    *,
    operations: Sequence[str] = ("CREATE", "UPDATE"),
    group: str = "",
    version: str = "v1",
) -> Object:
    """Requests for resources of one API group."""
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": [*operations],
        "resources": [*resources],
        "scope": "Namespaced",
    }


def constraints(rules: Sequence[Object], *, namespaces: Object) -> Object:
    """The matchConstraints of a policy; `namespaces` is a label selector."""
    return {
        "matchPolicy": "Equivalent",
        "namespaceSelector": namespaces,
        "objectSelector": {},
        "resourceRules": [*rules],
    }


def named(expressions: Mapping[str, str]) -> list[Object]:
    """Conditions or variables of CEL by their names."""
    return [{"name": name, "expression": expression} for name, expression in expressions.items()]
