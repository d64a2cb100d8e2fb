"""What the scheduler tells about a pod: its PodScheduled condition and its events. Pure."""

import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from slurmlet.contracts.names import SCHEDULER_NAME

Object = Mapping[str, Any]

MAX_NOTE = 1024
"""The API server refuses events with a longer note."""
MAX_NAME = 230
"""Characters of a pod's name that leave room for a suffix."""
MAX_INSTANCE = 128
"""The API server refuses events of a longer reportingInstance."""

Reason = Literal["Scheduled", "FailedScheduling"]


def unschedulable(
    pod: Object,
    message: str,
    *,
    now: datetime,
    reason: Literal["Unschedulable", "SchedulerError"] = "Unschedulable",
) -> dict[str, Any] | None:
    """A strategic merge patch of the pod's status, or None if its status says this already."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    before: Object = next((item for item in conditions if item["type"] == "PodScheduled"), {})
    fresh: dict[str, Any] = {
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
    }
    if all(before.get(key) == value for key, value in fresh.items()):
        return None
    since = before.get("lastTransitionTime") if before.get("status") == "False" else None
    metadata = pod["metadata"]
    if "generation" in metadata:
        fresh["observedGeneration"] = metadata["generation"]
    return {
        "metadata": {"uid": metadata["uid"]},
        "status": {
            "conditions": [
                {**fresh, "lastTransitionTime": since or now.strftime("%Y-%m-%dT%H:%M:%SZ")}
            ]
        },
    }


def assigned(pod: Object, node: str) -> str:
    """The note of a Scheduled event, in kube-scheduler's words."""
    metadata = pod["metadata"]
    return f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}"


def event(
    pod: Object, *, reason: Reason, note: str, instance: str, now: datetime
) -> dict[str, Any]:
    """An event about the pod; `instance` is the host that says so.

    A pod is scheduled once: that event has one name, so that whoever tells it again finds it told.
    """
    metadata = pod["metadata"]
    scheduled = reason == "Scheduled"
    suffix = (
        hashlib.sha256(str(metadata["uid"]).encode()).hexdigest() if scheduled else uuid.uuid4().hex
    )
    # A name that is cut behind a dash or a dot would be none.
    name = metadata["name"][:MAX_NAME].rstrip("-.")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{suffix[:16]}", "namespace": metadata["namespace"]},
        "eventTime": micro_time(now),
        "type": "Normal" if scheduled else "Warning",
        "reason": reason,
        "action": "Binding" if scheduled else "Scheduling",
        "note": cut(note),
        "reportingController": SCHEDULER_NAME,
        "reportingInstance": instance[:MAX_INSTANCE],
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }


def series(count: int, *, now: datetime) -> dict[str, Any]:
    """A merge patch: the event was observed so many times, at least two, and last now."""
    return {"series": {"count": count, "lastObservedTime": micro_time(now)}}


def cut(note: str) -> str:
    """A note that the API server takes."""
    # It counts bytes.
    if len(note.encode()) <= MAX_NOTE:
        return note
    return f"{note.encode()[: MAX_NOTE - 3].decode(errors='ignore')}..."


def micro_time(when: datetime) -> str:
    """As Kubernetes' MicroTime."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
