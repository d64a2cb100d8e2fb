"""Taints, and `kubectl cordon`, that keep a pod off a node. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from slurmlet.contracts.names import TAINT_KEY
from slurmlet.scheduler.numbers import canonical_int64
from slurmlet.scheduler.obstacle import Obstacle

Object = Mapping[str, Any]

_KEEP_OFF = ("NoSchedule", "NoExecute")
_CORDONED = "node.kubernetes.io/unschedulable"
_WAITS = {
    "node.kubernetes.io/unreachable": "the node's agent does not answer;"
    " the pod is bound when it does",
    "node.kubernetes.io/not-ready": "the node's condition Ready says why (kubectl describe node);"
    " the pod is bound when the node is ready",
}
_UNCORDON = "the node is cordoned; the pod is bound when the administrator uncordons it"


def cordoned(node_spec: Object, pod_spec: Object) -> Obstacle | None:
    """Whether the node takes no pods. `kubectl cordon` sets this field at once; a controller adds
    the taint later."""
    taint = {"key": _CORDONED, "effect": "NoSchedule"}
    if not node_spec.get("unschedulable") or _is_tolerated(taint, pod_spec):
        return None
    return Obstacle(reasons=("node(s) were unschedulable",), remedies=(_UNCORDON,))


def untolerated(node_spec: Object, pod_spec: Object) -> Obstacle | None:
    """Whether taints of the node keep the pod off it; all of them have their remedy."""
    remedies = [
        _remedy(taint)
        for taint in node_spec.get("taints") or ()
        if taint.get("effect") in _KEEP_OFF and not _is_tolerated(taint, pod_spec)
    ]
    if not remedies:
        return None
    return Obstacle(reasons=("node(s) had untolerated taint(s)",), remedies=tuple(remedies))


def _is_tolerated(taint: Object, pod_spec: Object) -> bool:
    return any(_tolerates(item, taint) for item in pod_spec.get("tolerations") or ())


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint.get("key")):
        return False
    mine, its = toleration.get("value") or "", taint.get("value") or ""
    match toleration.get("operator") or "Equal":
        case "Exists":
            return True
        case "Equal":
            return bool(mine == its)
        # Since 1.35 behind a feature gate (TaintTolerationComparisonOperators); without it the API
        # server lets no pod say this.
        case "Lt" | "Gt" as operator:
            left, right = canonical_int64(its), canonical_int64(mine)
            if left is None or right is None:
                return False
            return left < right if operator == "Lt" else left > right
        case _:
            return False


def _remedy(taint: Object) -> str:
    key, value, effect = (taint.get(name) or "" for name in ("key", "value", "effect"))
    if key == _CORDONED:
        return _UNCORDON
    if key in _WAITS:
        return f"taint {key}: {_WAITS[key]}"
    if key == TAINT_KEY and not value:
        toleration = {"key": key, "operator": "Exists"}
        return (
            f"taint {key}:{effect}: only pods that go through the webhook are given its toleration;"
            f" add {json.dumps(toleration)} to spec.tolerations"
        )
    toleration = {"key": key, **({"value": value} if value else {"operator": "Exists"})}
    shown = json.dumps({**toleration, "effect": effect}, ensure_ascii=False)
    return (
        f"taint {key}{'=' if value else ''}{value}:{effect}: the node is not for all pods;"
        f" if it is for this one, add {shown} to spec.tolerations"
    )
