"""Which node a pod goes to, or why it goes nowhere. Pure.

Slurm decides on which machine a pod runs, and when; here only what users say about nodes is
checked. There is no sum of requests to compare: what does not fit now waits in Slurm's queue.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slurmlet.contracts.names import LARGEST_ANNOTATION, PARTITION_LABEL
from slurmlet.scheduler.affinity import required_terms_match
from slurmlet.scheduler.taints import untolerated

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The node to bind to, or None and a sentence for the pod's author."""

    node: str | None = None
    reason: str = ""


def is_ours(pod: Object, names: Collection[str]) -> bool:
    """Whether this pod waits for a scheduler of one of these names."""
    spec = pod["spec"]
    return (
        spec.get("schedulerName", "default-scheduler") in names
        and not spec.get("nodeName")
        and not spec.get("schedulingGates")
        and not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase", "Pending") == "Pending"
    )


def verdict(pod: Object, nodes: Iterable[Object]) -> Verdict:
    """The first node, by name, that the pod may go to."""
    reasons = []
    for node in sorted(nodes, key=lambda item: str(item["metadata"]["name"])):
        name = str(node["metadata"]["name"])
        obstacle = _obstacle(pod["spec"], node)
        if obstacle is None:
            return Verdict(node=name)
        reasons.append(f"{name}: {obstacle}")
    if not reasons:
        return Verdict(reason="0/0 nodes are available: no virtual node is registered")
    return Verdict(reason=f"0/{len(reasons)} nodes are available: {'; '.join(reasons)}")


def _obstacle(spec: Object, node: Object) -> str | None:
    taint = untolerated(node.get("spec") or {}, spec)
    if taint:
        value = f"={taint['value']}" if taint.get("value") else ""
        return f"pod does not tolerate taint {taint['key']}{value}:{taint['effect']}"
    metadata = node["metadata"]
    labels = metadata.get("labels") or {}
    for key, value in (spec.get("nodeSelector") or {}).items():
        if key == PARTITION_LABEL and key not in labels:
            partitions = _partitions(metadata)
            if value not in partitions:
                return f"it has no partition {value}; it has {', '.join(partitions) or 'none'}"
        elif labels.get(key) != value:
            return f"its labels do not match nodeSelector {key}={value}"
    if not required_terms_match(spec, labels=labels, name=str(metadata["name"])):
        return "it does not match the pod's required node affinity"
    return None


def _partitions(metadata: Object) -> list[str]:
    """The partitions behind a node, as its agent last said."""
    try:
        largest = json.loads((metadata.get("annotations") or {}).get(LARGEST_ANNOTATION, ""))
    except ValueError:
        return []
    return sorted(largest) if isinstance(largest, dict) else []
