"""Admission policies and their bindings, with every default of the API server written out, so that
they can be compared. Pure.

Everywhere `rules` and `namespaces` say what a policy is about (matching.py), `conditions` and
`variables` are CEL by their names.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from slurmlet.webhook.matching import constraints, named

Object = dict[str, Any]

API_VERSION = "admissionregistration.k8s.io/v1"

FEW = 1000
"""Items of a list or map that CEL may look at one by one. It takes quadratic time for a walk over
many (cel-go v0.26, refValStack.drop), and 256 KiB of annotations hold 87,000: about ten seconds for
each walk."""


def validating(
    name: str,
    *,
    rules: Sequence[Object],
    namespaces: Object,
    conditions: Mapping[str, str],
    variables: Mapping[str, str],
    validations: Sequence[Object],
) -> Object:
    """A ValidatingAdmissionPolicy."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": constraints(rules, namespaces=namespaces),
            "matchConditions": named(conditions),
            "variables": named(variables),
            "validations": [*validations],
        },
    }


def validation(expression: str, *, says: str) -> Object:
    """What must hold, and the `text` that is said if it does not."""
    return {"expression": expression, "messageExpression": text(says), "reason": "Forbidden"}


def binding(name: str, *, action: str = "Deny") -> Object:
    """The binding of a ValidatingAdmissionPolicy; the action is Deny or Warn."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": [action]},
    }


def mutating(
    name: str,
    *,
    rules: Sequence[Object],
    namespaces: Object,
    conditions: Mapping[str, str],
    variables: Mapping[str, str],
    patch: str,
) -> list[Object]:
    """A MutatingAdmissionPolicy and its binding; `patch` is CEL for a list of JSONPatch."""
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                # Nothing can be away, and nothing may come through as nobody meant it to.
                "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded",
                "matchConstraints": constraints(rules, namespaces=namespaces),
                "matchConditions": named(conditions),
                "variables": named(variables),
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
            },
        },
        {
            "apiVersion": API_VERSION,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name},
        },
    ]


def text(says: str) -> str:
    """CEL for a sentence that has CEL in braces."""
    parts = re.split(r"\{(.+?)\}", says)
    texts = [json.dumps(part) if index % 2 == 0 else part for index, part in enumerate(parts)]
    return " + ".join(text for text in texts if text != '""')


def first(items: str, count: int) -> str:
    """CEL for at most so many of the items of a list."""
    return f"{items}.slice(0, {items}.size() > {count} ? {count} : {items}.size())"
