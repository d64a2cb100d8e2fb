import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from slurmlet.common.kube import Api, ApiError, UnreachableError
from slurmlet.scheduler.loop import Scheduler

Make = Callable[..., dict[str, Any]]
NAMES = frozenset({"slurmlet-scheduler", "default-scheduler"})
SECONDS = 5


class FakeApi:
    """Two collections with watches, and what was asked of it; `errors` answer binds first."""

    def __init__(self, *, pods: list[Any] | None = None, nodes: list[Any] | None = None) -> None:
        self.items = {"/api/v1/pods": pods or [], "/api/v1/nodes": nodes or []}
        self.watches: dict[str, asyncio.Queue[Any]] = {path: asyncio.Queue() for path in self.items}
        self.errors: list[Exception] = []
        self.bindings: list[dict[str, Any]] = []
        self.patches: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.changed = asyncio.Condition()

    async def list(self, path: str, _params: Any, *, trim: Any) -> tuple[list[Any], str]:
        return [trim(item) for item in copy.deepcopy(self.items[path])], "1"

    async def watch(self, path: str, _params: Any) -> AsyncIterator[Any]:
        while True:
            yield await self.watches[path].get()

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/events"):
            return await self._note(self.events, body)
        if self.errors:
            raise self.errors.pop(0)
        assert path == f"/api/v1/namespaces/alice/pods/{body['metadata']['name']}/binding"
        return await self._note(self.bindings, body)

    async def patch(self, path: str, body: dict[str, Any], *, content_type: str) -> dict[str, Any]:
        assert path.endswith("/status")
        assert content_type == "application/strategic-merge-patch+json"
        return await self._note(self.patches, body)

    async def _note(self, record: Any, body: dict[str, Any]) -> dict[str, Any]:
        async with self.changed:
            record.append(body)
            self.changed.notify_all()
        return {}

    def send(self, path: str, kind: str, item: dict[str, Any]) -> None:
        self.watches[path].put_nowait({"type": kind, "object": item})

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self.changed:
            await self.changed.wait_for(true)


@asynccontextmanager
async def scheduling(api: FakeApi) -> AsyncIterator[None]:
    task = asyncio.ensure_future(Scheduler(cast(Api, api), names=NAMES).run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await cast(Awaitable[None], task)


async def test_a_pod_is_bound_by_uid_and_told(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    async with scheduling(api):
        await api.until(lambda: bool(api.events))
    assert api.bindings == [
        {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": "alice", "name": "web", "uid": "uid-web"},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "slurm"},
        }
    ]
    assert api.events[0]["note"] == "Successfully assigned alice/web to slurm"


async def test_a_pod_that_appears_later_is_bound_and_a_gated_one_is_not(
    pod: Make, node: Make
) -> None:
    api = FakeApi(nodes=[node()])
    async with scheduling(api):
        gated = pod(name="gated", schedulingGates=[{"name": "kueue.x-k8s.io/admission"}])
        api.send("/api/v1/pods", "ADDED", gated)
        api.send("/api/v1/pods", "ADDED", pod(name="late"))
        await api.until(lambda: len(api.bindings) == 1)
        assert api.bindings[0]["metadata"]["name"] == "late"
        released = pod(name="gated")
        released["metadata"]["resourceVersion"] = "2"
        api.send("/api/v1/pods", "MODIFIED", released)
        await api.until(lambda: len(api.bindings) == 2)


async def test_a_pod_that_fits_nowhere_is_bound_when_a_node_comes(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()])
    async with scheduling(api):
        await api.until(lambda: bool(api.events))
        assert api.patches[0]["status"]["conditions"][0]["reason"] == "Unschedulable"
        assert api.events[0]["reason"] == "FailedScheduling"
        api.send("/api/v1/nodes", "ADDED", node())
        await api.until(lambda: bool(api.bindings))


async def test_a_bind_that_failed_is_tried_again(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.errors = [
        UnreachableError("connection refused"),
        ApiError(status=500, reason="InternalError", message="etcd"),
    ]
    async with scheduling(api):
        await api.until(lambda: bool(api.bindings))


async def test_a_pod_that_somebody_else_bound_is_left(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod(name="taken")], nodes=[node()])
    api.errors = [ApiError(status=409, reason="Conflict", message="already assigned")]
    async with scheduling(api):
        api.send("/api/v1/pods", "ADDED", pod(name="next"))
        await api.until(lambda: len(api.events) == 1)
    assert [item["metadata"]["name"] for item in api.bindings] == ["next"]


async def test_a_node_that_only_says_it_is_alive_wakes_nobody(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod(nodeSelector={"disk": "ssd"})], nodes=[node()])
    async with scheduling(api):
        await api.until(lambda: len(api.patches) == 1)
        beat = node()
        beat["metadata"]["resourceVersion"] = "2"
        api.send("/api/v1/nodes", "MODIFIED", beat)
        labelled = node(labels={"disk": "ssd"})
        labelled["metadata"]["resourceVersion"] = "3"
        api.send("/api/v1/nodes", "MODIFIED", labelled)
        await api.until(lambda: bool(api.bindings))
    assert len(api.patches) == 1
