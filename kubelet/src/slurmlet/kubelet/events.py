"""Events on pods and on the node, in kubelet's words. Losing one never harms a pod."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from slurmlet.common.kube import Api, ApiError, Object, UnreachableError

log = logging.getLogger(__name__)

MAX_WAITING = 1000
"""Events that wait for the API server; further ones are dropped and counted."""
MAX_SEEN = 4096
REPEAT_SECONDS = 600
"""Within this time a repeated event counts up the earlier one."""
MAX_MESSAGE = 1024
"""Characters of a message that the API server takes."""
MAX_NAME = 230
"""Characters of a pod's name that leave room for a suffix."""


@dataclass(slots=True)
class _Seen:
    name: str
    at: float
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    pod: Mapping[str, Any]
    reason: str
    message: str
    kind: str
    container: str | None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def node_of(name: str) -> Object:
    """A node as events refer to it: kubelet writes them into the namespace default, and its name
    as UID."""
    return {"kind": "Node", "metadata": {"name": name, "namespace": "default", "uid": name}}


class Events:
    """Writes events one after the other, so that a flood reaches the API server as a stream."""

    def __init__(self, api: Api) -> None:
        self.dropped = 0
        self._api = api
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(MAX_WAITING)
        self._seen: dict[tuple[str, str, str, str], _Seen] = {}

    def emit(
        self,
        pod: Mapping[str, Any],
        reason: str,
        message: str,
        *,
        kind: str = "Normal",
        container: str | None = None,
    ) -> None:
        """Put an event on a pod, or what `node_of` made, soon."""
        try:
            self._queue.put_nowait(
                _Waiting(
                    pod=pod,
                    reason=reason,
                    message=message[:MAX_MESSAGE],
                    kind=kind,
                    container=container,
                )
            )
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._write(event)
            except (ApiError, UnreachableError) as error:
                log.info("event %s lost: %s", event.reason, error)

    async def _write(self, event: _Waiting) -> None:
        metadata = event.pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        identity = (metadata["uid"], event.container or "", event.reason, event.message)
        seen = self._seen.get(identity)
        now = event.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        if seen and time.monotonic() - seen.at < REPEAT_SECONDS:
            seen.count += 1
            try:
                patch = {"count": seen.count, "lastTimestamp": now}
                await self._api.patch(f"{path}/{seen.name}", patch)
                return
            except ApiError as error:
                if error.status != 404:
                    raise
        # A name that is cut behind a dash or a dot would be none.
        name = f"{metadata['name'][:MAX_NAME].rstrip('-.')}.{time.time_ns():x}"
        await self._api.create(path, self._body(event, name=name, now=now))
        if len(self._seen) >= MAX_SEEN:
            self._seen.pop(next(iter(self._seen)))
        self._seen[identity] = _Seen(name=name, at=time.monotonic())

    def _body(self, event: _Waiting, *, name: str, now: str) -> Object:
        metadata = event.pod["metadata"]
        node = (event.pod.get("spec") or {}).get("nodeName") or metadata["name"]
        involved = {
            "apiVersion": "v1",
            "kind": event.pod.get("kind") or "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        if event.container:
            inits = event.pod["spec"].get("initContainers") or ()
            init = any(item["name"] == event.container for item in inits)
            kind = "initContainers" if init else "containers"
            involved["fieldPath"] = f"spec.{kind}{{{event.container}}}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": involved,
            "reason": event.reason,
            "message": event.message,
            "type": event.kind if event.kind in ("Normal", "Warning") else "Normal",
            "source": {"component": "kubelet", "host": node},
            "reportingComponent": "kubelet",
            "reportingInstance": node,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
