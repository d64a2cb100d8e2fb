"""Watches unbound pods and virtual nodes, and binds while it leads."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Literal

from slurmlet.common.kube import STRATEGIC, Api, ApiError, Object, UnreachableError
from slurmlet.common.ratelimit import TokenBucket
from slurmlet.common.reflector import Reflector
from slurmlet.contracts import quantity
from slurmlet.contracts.names import PREFIX
from slurmlet.scheduler import trim
from slurmlet.scheduler.events import assigned, unschedulable
from slurmlet.scheduler.leader import LeaseLostError
from slurmlet.scheduler.metrics import Metrics, Result
from slurmlet.scheduler.occupancy import Occupancy
from slurmlet.scheduler.queue import Doubt, SchedulingQueue, Waiting
from slurmlet.scheduler.recorder import Recorder
from slurmlet.scheduler.verdict import is_ours, verdict

log = logging.getLogger(__name__)

WORKERS = 16
"""Requests under way at once; the API server allows hundreds."""
NODES = f"type=virtual-kubelet,{PREFIX}cluster"
"""The agent's: other virtual kubelets have the first label, too."""
LOOK_AGAIN_SECONDS = 1800.0
"""Pods that fit nowhere are told so again at least this often: the API server forgets events after
an hour, and `kubectl describe` shows nothing else of the reason. So are pods that are called bound
and are not."""
BEAT_SECONDS = 1.0
"""Between signs of life of the event loop; it may be late while thousands of pods are listed."""
HOLD_SECONDS = 1.0
"""For which all requests rest at most when the API server is too busy for one. The pod itself rests
as long as asked: it may be a webhook that asks, for its own namespace."""

_NORMAL = (404, 409)
"""The pod was deleted, replaced, or bound by somebody else: the watch says what is true now.
If it is none of these a webhook may say so, and will again."""

Fate = Literal["bound", "unbound", "gone"]
"""Of the pod of a binding; gone means to another node, too, or replaced."""


class Scheduler:
    """Binds pods of the given scheduler names to the first virtual node that they may go to.

    `watch` keeps what it knows true; `schedule` binds, and does so at once if `watch` has run.
    `leads` is asked before each attempt. `beat` is when the event loop last was free for it, by
    time.monotonic().
    """

    def __init__(
        self,
        api: Api,
        *,
        names: Collection[str],
        recorder: Recorder,
        metrics: Metrics,
        limit: TokenBucket,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self.queue = SchedulingQueue(metrics.count_incoming)
        self._api = api
        self._names = names
        self._recorder = recorder
        self._metrics = metrics
        self._limit = limit
        self._leads = leads
        self.beat = time.monotonic()
        self._scheduling = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._occupancy = Occupancy(api, left=self._pod_left)
        self._group: asyncio.TaskGroup | None = None
        self._pods = Reflector(
            api,
            "/api/v1/pods",
            params={"fieldSelector": "spec.nodeName="},
            on_change=self._pod_changed,
            trim=trim.pod,
        )
        self._nodes = Reflector(
            api,
            "/api/v1/nodes",
            params={"labelSelector": NODES},
            on_change=self._node_changed,
            trim=trim.node,
        )

    @property
    def nodes(self) -> Collection[str]:
        """Names of the virtual nodes."""
        return self._nodes.store.keys()

    @property
    def lost(self) -> Mapping[str, float | None]:
        """What is watched → since when that has not worked (time.monotonic()), or None."""
        return {what: one.lost_since for what, one in self._reflectors.items()}

    @property
    def synced(self) -> Mapping[str, bool]:
        """What is watched → whether there was a first list."""
        return {what: one.synced.is_set() for what, one in self._reflectors.items()}

    @property
    def _reflectors(self) -> Mapping[str, Reflector]:
        on_nodes = self._occupancy.reflectors.items()
        return {
            "pods": self._pods,
            "nodes": self._nodes,
            **{f"pods on {node}": one for node, one in on_nodes},
        }

    async def watch(self) -> None:
        """Keep pods and nodes known until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._nodes.run())
            group.create_task(self._pods.run())
            while True:
                self.beat = time.monotonic()
                await asyncio.sleep(BEAT_SECONDS)

    async def known(self) -> None:
        """Return once pods and nodes are: before that every pod would be called unschedulable."""
        await self._nodes.synced.wait()
        await self._pods.synced.wait()
        await self._occupancy.known()

    async def schedule(self) -> None:
        """Schedule until cancelled."""
        await self.known()
        log.info("scheduling: nodes %s", ", ".join(sorted(self.nodes)) or "none yet")
        self._scheduling = True
        for key, pod in self._pods.store.items():
            self._enqueue(key, pod, "UnscheduledPodAdd")
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())
            while True:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                self.queue.wake("UnschedulableTimeout")
                for key, pod in self._pods.store.items():
                    if is_ours(pod, self._names):
                        self.queue.recall(key, "UnschedulableTimeout")

    async def finish(self) -> None:
        """Begin no attempt any more, and return when none is under way."""
        self._scheduling = False
        self._idle.clear()
        if self._under_way:
            await self._idle.wait()

    def _enqueue(self, key: str, pod: Object, event: str) -> None:
        if not is_ours(pod, self._names):
            gated = pod["spec"].get("schedulingGates") and not pod["spec"].get("nodeName")
            if gated and pod["spec"].get("schedulerName") in self._names:
                self.queue.gate(key, event)
            else:
                self.queue.forget(key)
        else:
            self.queue.add(key, event)

    def _pod_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if not self._scheduling:
            return
        replaced = before and after and before["metadata"]["uid"] != after["metadata"]["uid"]
        if replaced or after is None:
            self.queue.forget(key)
        if after is not None and (replaced or trim.counts(before) != trim.counts(after)):
            known = before is not None and not replaced
            self._enqueue(key, after, "UnscheduledPodUpdate" if known else "UnscheduledPodAdd")

    def _pod_left(self, node: str) -> None:
        """Wake others if the node was full: of one that was not, nobody waits for a place."""
        found = self._nodes.store.get(node)
        left = self._occupancy.running.get(node, 0)
        if self._scheduling and found and left + 1 >= most_pods(found):
            self.queue.wake("AssignedPodDelete")

    def _node_changed(self, _key: str, before: Object | None, after: Object | None) -> None:
        if self._group and (before is None or after is None):
            self._occupancy.follow(self._nodes.store, self._group)
        if not self._scheduling or (after and trim.counts(before) == trim.counts(after)):
            return
        self.queue.wake("NodeDelete" if after is None else "NodeUpdate" if before else "NodeAdd")

    async def _work(self) -> None:
        while True:
            waiting = await self.queue.take()
            if not self._scheduling:
                return
            if not self._leads():
                raise LeaseLostError("the lease is over")
            self._under_way += 1
            try:
                await self._attempt(waiting)
            finally:
                self._under_way -= 1
                if not self._under_way:
                    self._idle.set()
            # A verdict alone awaits nothing, and there may be thousands.
            await asyncio.sleep(0)

    async def _attempt(self, waiting: Waiting) -> None:
        """One pass over one pod. Whatever goes wrong with it is its own affair."""
        started = time.monotonic()
        pod = self._pods.store.get(waiting.key)
        result: Result | None
        try:
            result = await self._pass(waiting)
        except Exception as error:
            result = "error"
            await self._failed(waiting, pod if self.queue.knows(waiting) else None, error)
        if result is None:
            return
        now = time.monotonic()
        profile = pod["spec"].get("schedulerName", "") if pod else ""
        self._metrics.attempted(result=result, profile=profile, seconds=now - started)
        if result == "scheduled":
            self._metrics.scheduled(attempts=waiting.failures + 1, seconds=now - waiting.added)

    async def _pass(self, waiting: Waiting) -> Result | None:
        doubt = waiting.doubt
        fate = await self._fate(waiting, doubt) if doubt else "unbound"
        if fate == "bound":
            return "scheduled"
        if not self.queue.knows(waiting):
            self.queue.bound(waiting)
            return None
        pod = self._pods.store.get(waiting.key)
        if pod is None or not is_ours(pod, self._names):
            self.queue.forget(waiting.key)
            return None
        if doubt and doubt.said and fate == "unbound":
            await self._tell_error(pod, doubt.said)
        found = verdict(pod, self._nodes.store.values(), running=self._occupancy.running)
        if found.node is None:
            return await self._refuse(waiting, pod, found.reason)
        return await self._bind(waiting, pod, found.node)

    async def _bind(self, waiting: Waiting, pod: Object, node: str) -> Result | None:
        metadata = pod["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        # Until the answer is there; if none comes, the next attempt asks what became of it.
        doubt = waiting.doubt = Doubt(pod, node)
        # Before anything is awaited: others would be given the same place.
        self._occupancy.assume(node, waiting.key, uid=metadata["uid"])
        await self._limit.acquire()
        try:
            answer = await self._api.create(
                f"/api/v1/namespaces/{namespace}/pods/{name}/binding",
                {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    # The UID is a precondition: a pod of the same name is another pod.
                    "metadata": {"namespace": namespace, "name": name, "uid": metadata["uid"]},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node},
                },
            )
            _check_done(answer)
        except ApiError as error:
            if error.status in _NORMAL:
                return await self._taken(waiting, doubt, error)
            if error.status < 500:
                self._not_bound(waiting, doubt)
            doubt.said = str(error)
            raise
        except UnreachableError as error:
            if not error.sent:
                self._not_bound(waiting, doubt)
            raise
        self._bound(waiting, doubt)
        return "scheduled"

    async def _taken(self, waiting: Waiting, doubt: Doubt, error: ApiError) -> Result | None:
        """The pod is bound, deleted or another one, which the watch tells; if it is none of these,
        another attempt follows."""
        fate = await self._fate(waiting, doubt)
        if fate == "bound":
            return "scheduled"
        if fate == "unbound":
            self._rebuffed(waiting, error)
        log.debug("%s: %s", waiting.key, error)
        self.queue.failed(waiting)
        return None

    async def _fate(self, waiting: Waiting, doubt: Doubt) -> Fate:
        """What became of the binding that is in doubt, and then is no more."""
        metadata = doubt.pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        await self._limit.acquire()
        try:
            found = await self._api.get(path)
            uid, where = found["metadata"]["uid"], found["spec"].get("nodeName")
        except ApiError as error:
            if error.status != 404:
                raise
            uid = where = None
        if (uid, where) == (metadata["uid"], doubt.node):
            self._bound(waiting, doubt)
            return "bound"
        self._not_bound(waiting, doubt)
        return "gone" if where or uid != metadata["uid"] else "unbound"

    @staticmethod
    def _rebuffed(waiting: Waiting, error: ApiError) -> None:
        """Count an answer that is normal once; raise it if it comes again."""
        waiting.rebuffs += 1
        if waiting.rebuffs > 1:
            raise error

    def _bound(self, waiting: Waiting, doubt: Doubt) -> None:
        waiting.doubt = None
        log.info("%s: bound to %s", waiting.key, doubt.node)
        self._recorder.tell(doubt.pod, reason="Scheduled", note=assigned(doubt.pod, doubt.node))
        self.queue.bound(waiting)

    def _not_bound(self, waiting: Waiting, doubt: Doubt) -> None:
        waiting.doubt = None
        if self._occupancy.forget(doubt.node, waiting.key, uid=doubt.pod["metadata"]["uid"]):
            self._pod_left(doubt.node)

    async def _refuse(self, waiting: Waiting, pod: Object, reason: str) -> Result | None:
        patch = unschedulable(pod, reason, now=datetime.now(UTC))
        if patch is not None:
            try:
                await self._patch_status(pod, patch)
            except ApiError as error:
                if error.status not in _NORMAL:
                    raise
                if waiting.rebuffs and self.queue.knows(waiting):
                    # Its status takes no word of ours, an event may.
                    self._recorder.tell(pod, reason="FailedScheduling", note=reason)
                self._rebuffed(waiting, error)
                self.queue.failed(waiting)
                return None
            log.info("%s/%s: %s", pod["metadata"]["namespace"], pod["metadata"]["name"], reason)
        self._recorder.tell(pod, reason="FailedScheduling", note=reason)
        self.queue.refused(waiting)
        return "unschedulable"

    async def _failed(self, waiting: Waiting, pod: Object | None, error: Exception) -> None:
        known = isinstance(error, ApiError | UnreachableError)
        # Where an answer of the API server was raised says nothing that it does not say.
        log.warning(
            "%s: failed %d times in a row: %s",
            waiting.key,
            waiting.failures + 1,
            error or type(error).__name__,
            exc_info=None if known else error,
        )
        retry_after = error.retry_after if isinstance(error, ApiError) else 0.0
        busy = isinstance(error, ApiError) and error.status == 429
        if busy:
            waiting.rebuffs += 1
        if busy and waiting.rebuffs == 1:
            # Again and again it may be a webhook that has enough of this pod and of no other.
            self._limit.hold(min(retry_after, HOLD_SECONDS))
        # A pod that may be bound is told nothing before the next attempt has asked, and of a server
        # that is busy once nobody.
        silent = waiting.doubt or isinstance(error, UnreachableError)
        if pod is not None and not silent and not (busy and waiting.rebuffs == 1):
            await self._tell_error(pod, str(error) or type(error).__name__)
        self.queue.failed(waiting, retry_after=retry_after)

    async def _tell_error(self, pod: Object, message: str) -> None:
        patch = unschedulable(pod, message, now=datetime.now(UTC), reason="SchedulerError")
        try:
            if patch is not None:
                await self._patch_status(pod, patch)
        except (ApiError, UnreachableError) as error:
            log.debug("%s: status: %s", pod["metadata"]["name"], error)
        self._recorder.tell(pod, reason="FailedScheduling", note=message)

    async def _patch_status(self, pod: Object, patch: Object) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        await self._limit.acquire()
        await self._api.patch(path, patch, content_type=STRATEGIC)


def _check_done(answer: Object) -> None:
    """Raises UnreachableError unless it says that a binding was done."""
    said = answer.get("kind"), answer.get("status")
    if said != ("Status", "Success"):
        raise UnreachableError(f"a binding was answered with kind {said[0]}, status {said[1]}")


def most_pods(node: Object) -> float:
    """How many pods may be on a node at a time, as far as it says."""
    try:
        return float(quantity.parse(node["status"]["allocatable"]["pods"]))
    except (KeyError, TypeError, quantity.QuantityError):
        return float("inf")
