"""What is kept of pods and nodes: what a verdict reads, and what a binding or an event names. Pure.

Strings are interned, because thousands of pods say the same.
"""

import sys
from collections.abc import Mapping
from typing import Any

from slurmlet.contracts.names import LARGEST_ANNOTATION, PREFIX

Object = Mapping[str, Any]

_POD_METADATA = (
    "name",
    "namespace",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "labels",
)
_CONTAINER = ("name", "resources", "ports", "restartPolicy")
_CONTAINERS = ("containers", "initContainers")
_IN_SPEC = (
    "affinity",
    "hostNetwork",
    "nodeName",
    "nodeSelector",
    "overhead",
    "resourceClaims",
    "resources",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "tolerations",
    "topologySpreadConstraints",
)
_WHOLE_VOLUMES = ("ephemeral", "persistentVolumeClaim")
"""Kinds of volumes of which more than the kind counts."""
_NODE_METADATA = ("name", "uid", "resourceVersion", "labels")
_LONGEST_ANNOTATION = 4096
"""Characters of one that is not ours: kubectl and others keep whole manifests in them, and what is
read of other systems' is shorter."""
_SHORT = 128
"""Characters of a string that is likely to come again."""


def pod(item: Object) -> dict[str, Any]:
    """A pod, trimmed. Raises KeyError if it has no UID."""
    uid = item["metadata"]["uid"]
    spec, status = item["spec"], item.get("status") or {}
    kept = _of(spec, _IN_SPEC)
    for key in _CONTAINERS:
        if spec.get(key):
            kept[key] = [_of(container, _CONTAINER) for container in spec[key]]
    if spec.get("volumes"):
        kept["volumes"] = [_volume(volume) for volume in spec["volumes"]]
    annotations = {
        key: value
        for key, value in (item["metadata"].get("annotations") or {}).items()
        if len(value) <= _LONGEST_ANNOTATION or key.startswith(PREFIX)
    }
    conditions = [one for one in status.get("conditions") or () if one["type"] == "PodScheduled"]
    return {
        "metadata": {"uid": uid, **_metadata(item["metadata"], _POD_METADATA, annotations)},
        "spec": kept,
        "status": {"phase": status.get("phase", "Pending"), "conditions": _shared(conditions)},
    }


def node(item: Object) -> dict[str, Any]:
    """A node, trimmed."""
    annotations = item["metadata"].get("annotations") or {}
    # The agent writes others whenever a job of Slurm's begins or ends.
    kept = {key: annotations[key] for key in (LARGEST_ANNOTATION,) if key in annotations}
    return {
        "metadata": _metadata(item["metadata"], _NODE_METADATA, kept),
        "spec": _of(item.get("spec") or {}, ("taints", "unschedulable")),
        "status": _of(item.get("status") or {}, ("allocatable", "capacity")),
    }


def counts(item: Object | None) -> Any:
    """What must change of a trimmed pod or node for another verdict to be possible."""
    if item is None:
        return None
    metadata = {
        key: value
        for key, value in item["metadata"].items()
        if key not in ("resourceVersion", "generation")
    }
    status = {key: value for key, value in item["status"].items() if key != "conditions"}
    return metadata, item["spec"], status


def _metadata(metadata: Object, keys: tuple[str, ...], annotations: Object) -> dict[str, Any]:
    kept = _of(metadata, keys)
    if annotations:
        kept["annotations"] = _shared(annotations)
    return kept


def _volume(volume: Object) -> dict[str, Any]:
    return {
        sys.intern(key): _shared(value) if key in ("name", *_WHOLE_VOLUMES) else {}
        for key, value in volume.items()
    }


def _of(item: Object, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: _shared(item[key]) for key in keys if item.get(key) is not None}


def _shared(value: Any) -> Any:
    if isinstance(value, str):
        return sys.intern(value) if len(value) <= _SHORT else value
    if isinstance(value, dict):
        return {sys.intern(key): _shared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    return value
