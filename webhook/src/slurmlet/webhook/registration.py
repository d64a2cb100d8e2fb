"""The MutatingWebhookConfiguration that sends Services and pods to us. Pure."""

import base64
from typing import Any, Literal

from slurmlet.contracts.names import ADMISSION_LABEL, PROTECTED_NAMESPACES

NAME = "slurmlet"
TIMEOUT_SECONDS = 3
"""An answer takes milliseconds, and every create waits for it: a dead webhook is said soon."""

Scope = Literal["all", "labelled"]
"""Which namespaces without a label are ours: all of them on our own control plane, none on a
cluster that has other nodes."""


def configuration(*, url: str, ca: bytes, scope: Scope) -> dict[str, Any]:
    """The object, with every default of the API server written out, so that it can be compared."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [
            _webhook(
                "services",
                operations=["CREATE", "UPDATE"],
                conditions={
                    # The API server makes it before any webhook can be up.
                    "not-the-api-server": (
                        '!(request.namespace == "default" && request.name == "kubernetes")'
                    ),
                    "not-external": (
                        '!has(object.spec.type) || object.spec.type != "ExternalName"'
                    ),
                },
                url=url,
                ca=ca,
                scope=scope,
            ),
            _webhook(
                "pods",
                operations=["CREATE"],
                conditions={
                    "not-a-mirror": (
                        "!has(object.metadata.annotations) ||"
                        ' !("kubernetes.io/config.mirror" in object.metadata.annotations)'
                    )
                },
                url=url,
                ca=ca,
                scope=scope,
            ),
        ],
    }


def differences(live: Any, wanted: Any, path: str = "") -> list[str]:
    """Paths of the fields of `wanted` that `live` does not have with the same value."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        keys = wanted.keys() | live.keys()
        return [
            found
            for key in sorted(keys)
            for found in differences(live.get(key), wanted.get(key), f"{path}.{key}".lstrip("."))
        ]
    named = isinstance(live, list) and isinstance(wanted, list) and _names(live) and _names(wanted)
    if named and _names(live) == _names(wanted):
        pairs = zip(live, wanted, strict=True)
        return [
            found for old, new in pairs for found in differences(old, new, f"{path}[{new['name']}]")
        ]
    return [] if live == wanted else [path]


def _names(items: list[Any]) -> list[str]:
    return [item["name"] for item in items if isinstance(item, dict) and "name" in item]


def _webhook(
    resource: str,
    *,
    operations: list[str],
    conditions: dict[str, str],
    url: str,
    ca: bytes,
    scope: Scope,
) -> dict[str, Any]:
    switch = (
        {"key": ADMISSION_LABEL, "operator": "NotIn", "values": ["disabled"]}
        if scope == "all"
        else {"key": ADMISSION_LABEL, "operator": "In", "values": ["enabled"]}
    )
    return {
        "name": f"{resource}.slurmlet.io",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": url, "caBundle": base64.b64encode(ca).decode()},
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": operations,
                "resources": [resource],
                "scope": "Namespaced",
            }
        ],
        "namespaceSelector": {
            "matchExpressions": [
                {
                    "key": "kubernetes.io/metadata.name",
                    "operator": "NotIn",
                    "values": sorted(PROTECTED_NAMESPACES),
                },
                switch,
            ]
        },
        "objectSelector": {},
        "matchConditions": [
            {"name": name, "expression": expression} for name, expression in conditions.items()
        ],
        "matchPolicy": "Equivalent",
        # Let through unseen, a Service would get an address for life.
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
    }
