"""What a scheduler that was killed bound and did not tell."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from slurmlet.common.kube import Api, ApiError, Object, UnreachableError
from slurmlet.scheduler.events import assigned
from slurmlet.scheduler.recorder import Recorder

log = logging.getLogger(__name__)

UNTOLD = timedelta(seconds=120)
"""Before its last renewal a leader may have bound what it had not told yet: the longest that events
wait at the default rate, and what clocks may differ."""
PAUSES = (1.0, 5.0, 30.0)
"""Seconds after each attempt to list; the pods are bound and run whatever comes of it."""


async def tell_untold(
    api: Api, *, recorder: Recorder, names: Collection[str], nodes: Collection[str], renewed: str
) -> None:
    """Tell of the pods on these nodes that were bound since shortly before `renewed`, a lease's
    renewTime. What was told already has its event, and the API server takes no second one."""
    since = _time(renewed)
    if since is None:
        return
    for node in sorted(nodes):
        try:
            for pod in await _bound(api, node=node, names=names, since=since - UNTOLD):
                await recorder.write(pod, reason="Scheduled", note=assigned(pod, node))
        except Exception:
            # An event more or less is no reason to end the one who binds.
            log.exception("%s: events of pods that were bound before may be missing", node)


async def _bound(api: Api, *, node: str, names: Collection[str], since: datetime) -> list[Object]:
    selector = {"fieldSelector": f"spec.nodeName={node}"}

    def trim(pod: Object) -> Object:
        return _recent(pod, names=names, since=since)

    for seconds in PAUSES:
        try:
            items, _ = await api.list("/api/v1/pods", selector, trim=trim)
        except (ApiError, UnreachableError) as error:
            log.warning("events of pods that were bound before may be missing: %s", error)
            await asyncio.sleep(seconds)
        else:
            return [item for item in items if item]
    return []


def _recent(pod: Object, *, names: Collection[str], since: datetime) -> Object:
    """What an event says of the pod if a scheduler of ours bound it since, else nothing."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    scheduled: Mapping[str, Any] = next(
        (item for item in conditions if item["type"] == "PodScheduled"), {}
    )
    # Only a binding sets it to True; a pod that is created on a node does not have it.
    if pod["spec"].get("schedulerName") not in names or scheduled.get("status") != "True":
        return {}
    when = _time(scheduled.get("lastTransitionTime") or "")
    if when is None or when < since:
        return {}
    return {"metadata": {key: pod["metadata"][key] for key in ("namespace", "name", "uid")}}


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
    except ValueError:
        return None
