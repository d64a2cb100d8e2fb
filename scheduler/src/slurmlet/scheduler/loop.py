"""Watches unbound pods and virtual nodes, and binds."""

import asyncio
import logging
import socket
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Literal

from slurmlet.common.kube import STRATEGIC, Api, ApiError, Object, UnreachableError
from slurmlet.common.reflector import Reflector
from slurmlet.common.workqueue import WorkQueue
from slurmlet.contracts.names import LARGEST_ANNOTATION
from slurmlet.scheduler.events import event, unschedulable
from slurmlet.scheduler.verdict import is_ours, verdict

log = logging.getLogger(__name__)

WORKERS = 16
"""Binds under way at once; each is two short requests, and the API server allows hundreds."""

_GONE = (404, 409)
"""The pod was deleted, replaced, or bound by somebody else: the watch says what is true now."""


class Scheduler:
    """Binds pods of the given scheduler names to the first virtual node that they may go to."""

    def __init__(self, api: Api, *, names: Collection[str]) -> None:
        self._api = api
        self._names = names
        self._host = socket.gethostname()
        self._queue = WorkQueue(self._schedule, workers=WORKERS)
        self._pods = Reflector(
            api,
            "/api/v1/pods",
            params={"fieldSelector": "spec.nodeName="},
            on_change=self._pod_changed,
        )
        self._nodes = Reflector(
            api,
            "/api/v1/nodes",
            params={"labelSelector": "type=virtual-kubelet"},
            on_change=self._node_changed,
        )

    async def run(self) -> None:
        """Schedule until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._nodes.run())
            group.create_task(self._pods.run())
            # Before the first list of nodes every pod would be called unschedulable.
            await self._nodes.synced.wait()
            await self._pods.synced.wait()
            log.info("ready: nodes %s", ", ".join(sorted(self._nodes.store)) or "none yet")
            group.create_task(self._queue.run())

    def _pod_changed(self, key: str, _before: Object | None, after: Object | None) -> None:
        if after is not None:
            self._queue.add(key)

    def _node_changed(self, _key: str, before: Object | None, after: Object | None) -> None:
        if _what_counts(before) != _what_counts(after):
            for key in self._pods.store:
                self._queue.add(key)

    async def _schedule(self, key: str) -> None:
        pod = self._pods.store.get(key)
        if pod is None or not is_ours(pod, self._names):
            return
        found = verdict(pod, self._nodes.store.values())
        try:
            if found.node is None:
                await self._refuse(pod, found.reason)
            else:
                await self._bind(pod, found.node)
        except ApiError as error:
            if error.status not in _GONE:
                raise
            log.debug("%s: %s", key, error)

    async def _bind(self, pod: Object, node: str) -> None:
        metadata = pod["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        await self._api.create(
            f"/api/v1/namespaces/{namespace}/pods/{name}/binding",
            {
                "apiVersion": "v1",
                "kind": "Binding",
                # The UID is a precondition: a pod of the same name is another pod.
                "metadata": {"namespace": namespace, "name": name, "uid": metadata["uid"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            },
        )
        log.info("%s/%s: bound to %s", namespace, name, node)
        note = f"Successfully assigned {namespace}/{name} to {node}"
        await self._tell(pod, reason="Scheduled", note=note)

    async def _refuse(self, pod: Object, reason: str) -> None:
        patch = unschedulable(pod, reason, now=datetime.now(UTC))
        if patch is None:
            return
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        await self._api.patch(path, patch, content_type=STRATEGIC)
        log.info("%s/%s: %s", metadata["namespace"], metadata["name"], reason)
        await self._tell(pod, reason="FailedScheduling", note=reason)

    async def _tell(
        self, pod: Object, *, reason: Literal["Scheduled", "FailedScheduling"], note: str
    ) -> None:
        body = event(pod, reason=reason, note=note, instance=self._host, now=datetime.now(UTC))
        namespace = pod["metadata"]["namespace"]
        try:
            await self._api.create(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)
        except (ApiError, UnreachableError) as error:
            # Events are a courtesy: the pod is bound, or its condition is written, already.
            log.warning("%s/%s: event %s: %s", namespace, pod["metadata"]["name"], reason, error)


def _what_counts(node: Object | None) -> Any:
    """What a verdict reads of a node, so that its status updates do not wake every pod."""
    if node is None:
        return None
    metadata, spec = node["metadata"], node.get("spec") or {}
    largest = (metadata.get("annotations") or {}).get(LARGEST_ANNOTATION)
    status = node.get("status") or {}
    amounts = status.get("capacity"), status.get("allocatable")
    return metadata.get("labels"), largest, spec.get("taints"), spec.get("unschedulable"), amounts
