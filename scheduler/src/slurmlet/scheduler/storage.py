"""Claims of storage and devices that no node can serve. Pure."""

from collections.abc import Mapping
from typing import Any

from slurmlet.contracts.podfields import examine
from slurmlet.scheduler.obstacle import Obstacle

Object = Mapping[str, Any]

_CLAIMS = ("persistentVolumeClaim", "ephemeral")


def unclaimable(spec: Object) -> Obstacle | None:
    """Whether the pod waits for a claim. Admission's table says which can be had, in its words;
    other fields that it refuses are the agent's to refuse."""
    volumes = [
        {name: volume[name] for name in ("name", *_CLAIMS) if volume.get(name) is not None}
        for volume in spec.get("volumes") or ()
        if any(volume.get(name) is not None for name in _CLAIMS)
    ]
    if volumes and (said := examine({"volumes": volumes}).errors):
        reason = "node(s) didn't find available persistent volumes to bind"
        return Obstacle(reasons=(reason,), remedies=said)
    claims = spec.get("resourceClaims")
    if claims and (said := examine({"resourceClaims": claims}).errors):
        return Obstacle(reasons=("cannot allocate all claims",), remedies=said)
    return None
