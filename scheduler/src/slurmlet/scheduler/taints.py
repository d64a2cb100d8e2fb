"""Taints that keep a pod off a node. Pure."""

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]

_KEEP_OFF = ("NoSchedule", "NoExecute")


def untolerated(node_spec: Object, pod_spec: Object) -> Object | None:
    """The first taint of the node that keeps the pod off it."""
    taints: list[Object] = [
        taint for taint in node_spec.get("taints") or () if taint["effect"] in _KEEP_OFF
    ]
    if node_spec.get("unschedulable"):
        # `kubectl cordon` sets the field at once; the taint follows from the controller.
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    tolerations = pod_spec.get("tolerations") or ()
    for taint in taints:
        if not any(_tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("key") not in (None, "", taint["key"]):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return operator == "Equal" and (toleration.get("value") or "") == (taint.get("value") or "")
