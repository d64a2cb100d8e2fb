"""What the scheduler tells about a pod: its PodScheduled condition and its events. Pure."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from slurmlet.contracts.names import SCHEDULER_NAME

Object = Mapping[str, Any]

MAX_NOTE = 1024
"""The API server refuses events with a longer note."""


def unschedulable(pod: Object, message: str, *, now: datetime) -> dict[str, Any] | None:
    """A strategic merge patch of the pod's status, or None if its status says this already."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    before: Object = next((item for item in conditions if item["type"] == "PodScheduled"), {})
    fresh: dict[str, Any] = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
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


def event(
    pod: Object,
    *,
    reason: Literal["Scheduled", "FailedScheduling"],
    note: str,
    instance: str,
    now: datetime,
) -> dict[str, Any]:
    """An event about the pod; `instance` is the host that says so."""
    metadata = pod["metadata"]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
            "namespace": metadata["namespace"],
        },
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Normal" if reason == "Scheduled" else "Warning",
        "reason": reason,
        "action": "Binding" if reason == "Scheduled" else "Scheduling",
        "note": note if len(note) <= MAX_NOTE else f"{note[: MAX_NOTE - 3]}...",
        "reportingController": SCHEDULER_NAME,
        "reportingInstance": instance,
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
