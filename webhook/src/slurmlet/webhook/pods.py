"""Pods get our scheduler, the toleration of our taint and their effective Slurm request.

The request is for the user to read. The agent computes its own from the pod at submission, so
nothing that a user writes here can widen what the job may have.
"""

import json
from typing import Any

from slurmlet.contracts.admission import judge
from slurmlet.contracts.names import (
    REQUEST_ANNOTATION,
    SCHEDULER_NAME,
    STATUS_PREFIX,
    TAINT_KEY,
)
from slurmlet.contracts.policy import Snapshot
from slurmlet.contracts.wording import in_one
from slurmlet.webhook.decision import UNCHANGED, Decision, Object, Op, add, metadata, remove

_MIRROR = "kubernetes.io/config.mirror"
_AWAY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_DEFAULT_SECONDS = 300
"""What the API server's DefaultTolerationSeconds writes before any webhook is called."""


def mutate(request: Object, policy: Snapshot) -> Decision:
    """The decision on the CREATE of a pod, given an AdmissionRequest."""
    pod = request["object"]
    if request["operation"] != "CREATE" or _MIRROR in metadata(pod, "annotations"):
        return UNCHANGED
    verdict = judge(
        pod.get("metadata") or {},
        pod["spec"],
        namespace=request.get("namespace") or "",
        policy=policy,
    )
    if verdict.errors:
        return Decision(denial=in_one(verdict.errors), warnings=verdict.warnings)
    text = json.dumps(dict(verdict.options), sort_keys=True, separators=(",", ":"))
    tolerations, toleration_warnings = _tolerations(pod["spec"])
    return Decision(
        patch=(*_annotations(pod, text), *_scheduler(pod["spec"]), *tolerations),
        warnings=(*verdict.warnings, *_annotation_warnings(pod), *toleration_warnings),
    )


def _annotations(pod: Object, request: str) -> list[Op]:
    annotations = metadata(pod, "annotations")
    if not annotations:
        return [add("metadata", "annotations", value={REQUEST_ANNOTATION: request})]
    ops = [remove("metadata", "annotations", key) for key in _foreign(pod)]
    if annotations.get(REQUEST_ANNOTATION) != request:
        ops.append(add("metadata", "annotations", REQUEST_ANNOTATION, value=request))
    return ops


def _foreign(pod: Object) -> list[str]:
    """Annotations that only we may write; ours is left out, because it is overwritten anyway."""
    return [
        key
        for key in metadata(pod, "annotations")
        if key.startswith(STATUS_PREFIX) and key != REQUEST_ANNOTATION
    ]


def _annotation_warnings(pod: Object) -> list[str]:
    return [f"annotation {key[:80]} is written by slurmlet only; removed" for key in _foreign(pod)]


def _scheduler(spec: Object) -> list[Op]:
    if spec.get("schedulerName") in (None, "", "default-scheduler"):
        return [add("spec", "schedulerName", value=SCHEDULER_NAME)]
    return []


def _tolerations(spec: Object) -> tuple[list[Op], list[str]]:
    """Tolerates our taint, and an agent that is away for as long as it takes: the jobs of its
    pods go on, so their eviction would kill what is alive."""
    before: list[dict[str, Any]] = spec.get("tolerations") or []
    warnings = []
    after = []
    for toleration in before:
        seconds = toleration.get("tolerationSeconds")
        if seconds is None or toleration.get("key") not in _AWAY:
            after.append(toleration)
            continue
        after.append({k: v for k, v in toleration.items() if k != "tolerationSeconds"})
        if seconds != _DEFAULT_SECONDS:
            warnings.append(
                f"spec.tolerations: tolerationSeconds {seconds} of {toleration['key']} was"
                " removed, because the jobs of pods go on while the node's agent is away"
            )
    if not any(_covers_taint(toleration) for toleration in after):
        after.append({"key": TAINT_KEY, "operator": "Exists", "effect": "NoSchedule"})
    return ([add("spec", "tolerations", value=after)] if after != before else []), warnings


def _covers_taint(toleration: Object) -> bool:
    return (
        toleration.get("key") in (None, "", TAINT_KEY)
        and toleration.get("operator") == "Exists"
        and toleration.get("effect") in (None, "", "NoSchedule")
    )
