import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from slurmlet.common import reflector
from slurmlet.common.kube import Api, ApiError, UnreachableError
from slurmlet.common.ratelimit import TokenBucket
from slurmlet.scheduler import backoff, loop, queue
from slurmlet.scheduler.leader import LeaseLostError
from slurmlet.scheduler.loop import Scheduler, most_pods
from slurmlet.scheduler.metrics import metrics_in
from slurmlet.scheduler.recorder import Recorder

Make = Callable[..., dict[str, Any]]
NAMES = frozenset({"slurmlet-scheduler", "default-scheduler"})
SECONDS = 5
INF = float("inf")
PODS, NODES = "/api/v1/pods", "/api/v1/nodes"


RUNNING = "spec.nodeName=slurm,status.phase!=Succeeded,status.phase!=Failed"
"""The selector of pods on the node, and the key of their watch."""


SUCCESS = {"kind": "Status", "status": "Success"}


def is_running(params: Any) -> bool:
    return bool(params.get("fieldSelector") == RUNNING)


def selected(item: dict[str, Any], selector: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    return all(
        key in labels and value in ("", labels[key])
        for key, _, value in (one.partition("=") for one in selector.split(",") if one)
    )


class FakeApi:
    """Pods and nodes with watches, and what was asked of it.

    `errors` answer binds first; one in `after` answers a bind that was done, what is in `lies` one
    that was not, and `denials` patches of a status.
    """

    def __init__(self, *, pods: list[Any] | None = None, nodes: list[Any] | None = None) -> None:
        self.items = {PODS: pods or [], NODES: nodes or []}
        self.running: list[Any] = []
        self.watches: dict[str, asyncio.Queue[Any]] = {
            path: asyncio.Queue() for path in (*self.items, RUNNING)
        }
        self.errors: list[Exception] = []
        self.after: list[Exception] = []
        self.lies: list[dict[str, Any]] = []
        self.denials: list[Exception] = []
        self.bound: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.bindings: list[dict[str, Any]] = []
        self.patches: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.changed = asyncio.Condition()
        self.open = asyncio.Event()
        self.open.set()

    async def list(self, path: str, params: Any, *, trim: Any) -> tuple[list[Any], str]:
        items = self.running if is_running(params) else self.items[path]
        selector = params.get("labelSelector", "")
        items = [item for item in items if selected(item, selector)]
        return [trim(item) for item in copy.deepcopy(items)], "1"

    async def watch(self, path: str, params: Any) -> AsyncIterator[Any]:
        while True:
            yield await self.watches[RUNNING if is_running(params) else path].get()

    async def get(self, path: str) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        found: dict[str, Any]
        for found in (*self.bound.values(), *self.items[PODS]):
            if found["metadata"]["name"] == name:
                return found
        raise ApiError(status=404, reason="NotFound", message=name)

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/events"):
            return await self._note(self.events, body)
        self.asked += 1
        await self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.lies:
            return self.lies.pop(0)
        name = body["metadata"]["name"]
        assert path == f"/api/v1/namespaces/alice/pods/{name}/binding"
        self.bound[name] = {
            "metadata": {"name": name, "uid": body["metadata"]["uid"]},
            "spec": {"nodeName": body["target"]["name"]},
        }
        await self._note(self.bindings, body)
        if self.after:
            raise self.after.pop(0)
        return SUCCESS

    async def patch(self, path: str, body: dict[str, Any], *, content_type: str) -> dict[str, Any]:
        assert path.endswith("/status")
        assert content_type == "application/strategic-merge-patch+json"
        if self.denials:
            raise self.denials.pop(0)
        return await self._note(self.patches, body)

    async def _note(self, record: Any, body: dict[str, Any]) -> dict[str, Any]:
        async with self.changed:
            record.append(body)
            self.changed.notify_all()
        return {}

    def send(self, path: str, kind: str, item: dict[str, Any]) -> None:
        self.watches[path].put_nowait({"type": kind, "object": item})

    @property
    def scheduled(self) -> Sequence[str]:
        """Names of the pods with a Scheduled event, one for each."""
        return [item["regarding"]["name"] for item in self.events if item["reason"] == "Scheduled"]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self.changed:
            await self.changed.wait_for(true)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0)


def version(item: dict[str, Any], number: int, **metadata: Any) -> dict[str, Any]:
    item["metadata"] |= {"resourceVersion": str(number), **metadata}
    return item


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 0.05)


def scheduler_of(api: FakeApi, **options: Any) -> tuple[Scheduler, Recorder]:
    seam = cast(Api, api)
    recorder = Recorder(seam, limit=TokenBucket(rate=1000, burst=1000))
    scheduler = Scheduler(
        seam,
        names=NAMES,
        recorder=recorder,
        metrics=metrics_in(options.pop("registry", CollectorRegistry())),
        limit=options.pop("limit", TokenBucket(rate=1000, burst=1000)),
        **options,
    )
    return scheduler, recorder


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one) for one in work]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


@asynccontextmanager
async def scheduling(api: FakeApi, **options: Any) -> AsyncIterator[Scheduler]:
    scheduler, recorder = scheduler_of(api, **options)
    async with running(scheduler.watch(), scheduler.schedule(), recorder.run()):
        yield scheduler


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
        api.send(PODS, "ADDED", gated)
        api.send(PODS, "ADDED", pod(name="late"))
        await api.until(lambda: len(api.bindings) == 1)
        assert api.bindings[0]["metadata"]["name"] == "late"
        released = pod(name="gated")
        released["metadata"]["resourceVersion"] = "2"
        api.send(PODS, "MODIFIED", released)
        await api.until(lambda: len(api.bindings) == 2)


@pytest.mark.claim("K65")
async def test_the_virtual_nodes_of_others_get_no_pods(pod: Make, node: Make) -> None:
    others = node(name="aci")
    del others["metadata"]["labels"]["slurmlet.io/cluster"]
    api = FakeApi(pods=[pod(), pod(name="large", nodeSelector={"a": "b"})], nodes=[others, node()])
    async with scheduling(api) as scheduler:
        await api.until(lambda: len(api.events) == 2)
        assert list(scheduler.nodes) == ["slurm"]
    assert api.bindings[0]["target"]["name"] == "slurm"
    assert api.patches[0]["status"]["conditions"][0]["message"].startswith("0/1 nodes")


@pytest.mark.claim("K43")
async def test_a_pod_that_fits_nowhere_is_bound_when_a_node_comes(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()])
    async with scheduling(api):
        await api.until(lambda: bool(api.events))
        assert api.patches[0]["status"]["conditions"][0]["reason"] == "Unschedulable"
        assert api.events[0]["reason"] == "FailedScheduling"
        api.send(NODES, "ADDED", node())
        await api.until(lambda: bool(api.bindings))


UNREACHABLE = UnreachableError("connection reset")
INTERNAL = ApiError(status=500, reason="InternalError", message="etcd")


async def test_a_bind_that_failed_is_tried_again(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.errors = [UNREACHABLE, INTERNAL, UnreachableError("refused", sent=False)]
    async with scheduling(api):
        await api.until(lambda: bool(api.scheduled))
    assert len(api.bindings) == 1
    assert api.scheduled == ["web"]
    messages = [patch["status"]["conditions"][0]["message"] for patch in api.patches]
    assert messages == ["500 InternalError: etcd"], "told once it was known not to be bound"


@pytest.mark.claim("K40")
@pytest.mark.parametrize("error", [UNREACHABLE, INTERNAL], ids=str)
@pytest.mark.parametrize("seen", [True, False], ids=["seen by the watch", "not seen yet"])
async def test_a_binding_whose_answer_was_lost_is_neither_repeated_nor_untold(
    pod: Make, node: Make, error: Exception, seen: bool
) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.after = [error]
    async with scheduling(api):
        await api.until(lambda: bool(api.bindings))
        if seen:
            api.send(PODS, "DELETED", version(pod(), 2))
        await api.until(lambda: bool(api.scheduled))
        api.send(PODS, "ADDED", version(pod(name="next"), 3))
        await api.until(lambda: "next" in api.scheduled)
    assert api.asked == 2
    assert api.scheduled == ["web", "next"]
    assert len(api.events) == 2
    assert not api.patches, "what is bound is not called unscheduled"


@pytest.mark.claim("K62")
@pytest.mark.parametrize(
    "answer",
    [{}, {"kind": "Status", "status": "Failure", "code": 500}, {"kind": "Pod", "status": {}}],
    ids=str,
)
async def test_only_a_binding_that_is_called_done_is(
    pod: Make, node: Make, answer: dict[str, Any]
) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.lies = [answer]
    async with scheduling(api):
        await api.until(lambda: bool(api.events))
    assert api.scheduled == ["web"]
    assert len(api.bindings) == 1


@pytest.mark.claim("K62")
async def test_a_pod_that_is_called_bound_and_is_not_is_tried_again(
    pod: Make, node: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(queue, "SEEN_SECONDS", 0.05)
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.lies = [SUCCESS]
    async with scheduling(api):
        await api.until(lambda: bool(api.bindings))
    assert api.asked == 2


@pytest.mark.parametrize("status", [404, 409])
async def test_a_pod_that_somebody_else_took_is_left(pod: Make, node: Make, status: int) -> None:
    api = FakeApi(pods=[pod(name="taken")], nodes=[node()])
    api.errors = [ApiError(status=status, reason="Conflict", message="already assigned")]
    async with scheduling(api):
        await until(lambda: api.asked == 1)
        api.send(PODS, "DELETED", version(pod(name="taken"), 2))
        api.send(PODS, "ADDED", pod(name="next"))
        await api.until(lambda: len(api.events) == 1)
    assert [item["metadata"]["name"] for item in api.bindings] == ["next"]
    assert not api.patches


async def test_a_pod_that_is_called_gone_and_is_not_is_tried_again(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.errors = [ApiError(status=404, reason="NotFound", message="no such page")]
    async with scheduling(api):
        await api.until(lambda: api.scheduled == ["web"])


def refusals(status: int, count: int) -> list[Exception]:
    return [ApiError(status=status, reason="Denied", message="by a webhook") for _ in range(count)]


@pytest.mark.claim("K41")
@pytest.mark.parametrize("status", [404, 409])
async def test_a_binding_that_is_called_taken_again_and_again_is_told(
    pod: Make, node: Make, status: int
) -> None:
    registry = CollectorRegistry()
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.errors = refusals(status, 2)
    async with scheduling(api, registry=registry):
        await api.until(lambda: bool(api.scheduled))
    messages = [patch["status"]["conditions"][0]["message"] for patch in api.patches]
    assert messages == [f"{status} Denied: by a webhook"]
    labels = {"result": "error", "profile": "slurmlet-scheduler"}
    assert registry.get_sample_value("scheduler_schedule_attempts_total", labels) == 1


@pytest.mark.parametrize("status", [404, 409])
@pytest.mark.parametrize("refused", [1, 1000])
async def test_a_status_that_could_not_be_written_is_tried_again(
    pod: Make, node: Make, status: int, refused: int
) -> None:
    api = FakeApi(pods=[pod(nodeSelector={"disk": "ssd"})], nodes=[node()])
    api.denials = refusals(status, refused)
    async with scheduling(api):
        await api.until(lambda: len(api.events) == (1 if refused == 1 else 2))
    assert "didn't match" in api.events[0]["note"]
    assert len(api.patches) == (1 if refused == 1 else 0)


async def test_another_pod_of_the_same_name_is_bound_for_itself(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.open.clear()
    async with scheduling(api) as scheduler:
        await until(lambda: api.asked == 1)
        # Replaced while its binding is under way, of which nobody hears whether it was done.
        api.send(PODS, "DELETED", version(pod(), 2))
        api.send(PODS, "ADDED", version(pod(), 3, uid="uid-other"))
        await until(lambda: scheduler._pods.store["alice/web"]["metadata"]["uid"] == "uid-other")
        api.open.set()
        await api.until(lambda: len(api.scheduled) == 2)
    assert {one["metadata"]["uid"] for one in api.bindings} == {"uid-web", "uid-other"}


class SlowApi(FakeApi):
    """The first pod's binding is answered when `first` is set, its successor's, which is done at
    once, when `second` is."""

    def __init__(self, **items: Any) -> None:
        super().__init__(**items)
        self.first, self.second = asyncio.Event(), asyncio.Event()
        self.uids: list[str] = []

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/events"):
            return await super().create(path, body)
        self.uids.append(body["metadata"]["uid"])
        if body["metadata"]["uid"] == "uid-web":
            await self.first.wait()
            raise ApiError(status=409, reason="Conflict", message="UID in precondition")
        answer = await super().create(path, body)
        await self.second.wait()
        return answer


async def test_two_pods_of_one_name_that_are_under_way_know_of_themselves_alone(
    pod: Make, node: Make
) -> None:
    api = SlowApi(pods=[pod()], nodes=[node()])
    async with scheduling(api) as scheduler:
        await until(lambda: api.uids == ["uid-web"])
        deleted = version(pod(), 2, deletionTimestamp="2026-01-02T03:04:05Z")
        api.send(PODS, "MODIFIED", deleted)
        api.send(PODS, "DELETED", deleted)
        api.send(PODS, "ADDED", version(pod(), 3, uid="uid-other"))
        await api.until(lambda: len(api.bindings) == 1)
        api.first.set()
        await until(lambda: scheduler._under_way == 1)
        assert scheduler._occupancy.running == {"slurm": 1}, "the second counts on"
        assert not api.events
        api.second.set()
        await api.until(lambda: bool(api.events))
    assert [(one["reason"], one["regarding"]["uid"]) for one in api.events] == [
        ("Scheduled", "uid-other")
    ]
    assert not api.patches


async def test_a_binding_in_doubt_is_looked_up_also_of_a_pod_that_is_being_deleted(
    pod: Make, node: Make
) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.errors = [UNREACHABLE]
    async with scheduling(api) as scheduler:
        await until(lambda: scheduler.queue.pending("backoff") == 1)
        deleted = version(pod(), 2, deletionTimestamp="2026-01-02T03:04:05Z")
        api.send(PODS, "MODIFIED", deleted)
        api.send(PODS, "DELETED", deleted)
        await until(lambda: not scheduler._pods.store)
        assert scheduler._occupancy.running == {"slurm": 1}
        await until(lambda: scheduler._occupancy.running == {"slurm": 0})
    assert api.asked == 1
    assert not api.events


async def test_what_was_bound_is_not_tried_again_before_the_watch_says_so(
    pod: Make, node: Make
) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    async with scheduling(api):
        await api.until(lambda: bool(api.scheduled))
        labelled = version(pod(), 2, labels={"app": "web"})
        api.send(PODS, "MODIFIED", labelled)
        api.send(NODES, "MODIFIED", version(node(labels={"disk": "ssd"}), 2))
        api.send(PODS, "ADDED", pod(name="next"))
        await api.until(lambda: "next" in api.scheduled)
    assert api.asked == 2


@pytest.mark.claim("K41")
async def test_a_refused_binding_is_told_as_an_error_of_ours_and_tried_again(
    pod: Make, node: Make
) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.errors = [ApiError(status=403, reason="Forbidden", message="denied by policy")]
    async with scheduling(api):
        await api.until(lambda: bool(api.scheduled))
    condition = api.patches[0]["status"]["conditions"][0]
    assert (condition["status"], condition["reason"]) == ("False", "SchedulerError")
    assert condition["message"] == "403 Forbidden: denied by policy"
    assert api.events[0]["reason"] == "FailedScheduling"


async def test_a_pod_that_cannot_be_read_harms_no_other(pod: Make, node: Make) -> None:
    odd = pod(name="odd", affinity={"nodeAffinity": "here"})
    api = FakeApi(pods=[odd, pod()], nodes=[node()])
    async with scheduling(api):
        await api.until(lambda: api.scheduled == ["web"])
        await api.until(lambda: bool(api.patches))
    assert api.patches[0]["status"]["conditions"][0]["reason"] == "SchedulerError"


@pytest.mark.claim("K54")
async def test_pods_without_a_uid_are_no_information(
    pod: Make, node: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "BACKOFF_SECONDS", (0.001, 0.002))
    api = FakeApi(pods=[pod()], nodes=[node()])
    async with scheduling(api) as scheduler:
        await api.until(lambda: bool(api.scheduled))
        nameless = version(pod(), 2)
        del nameless["metadata"]["uid"]
        api.send(PODS, "MODIFIED", nameless)
        api.items[PODS] = [pod(), pod(name="next")]
        await api.until(lambda: api.scheduled == ["web", "next"])
        assert scheduler._pods.store["alice/web"]["metadata"]["uid"] == "uid-web"


async def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.errors = [ApiError(status=429, reason="TooManyRequests", message="", retry_after=0.5)]
    started = time.monotonic()
    async with scheduling(api):
        await api.until(lambda: bool(api.bindings))
    assert time.monotonic() - started >= 0.5
    assert not api.patches


@pytest.mark.claim("K63")
@pytest.mark.parametrize("status", [403, 429])
async def test_one_pods_pause_is_no_others(
    pod: Make, node: Make, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "HOLD_SECONDS", 0.2)
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.errors = [ApiError(status=status, reason="Denied", message="quota", retry_after=1.5)]
    started = time.monotonic()
    async with scheduling(api):
        await until(lambda: api.asked == 1)
        api.send(PODS, "ADDED", pod(name="other"))
        await api.until(lambda: api.scheduled == ["other"])
        others = time.monotonic() - started
        await api.until(lambda: api.scheduled == ["other", "web"])
    assert others < 1.4 < 1.5 <= time.monotonic() - started
    assert bool(api.patches) == (status == 403)


@pytest.mark.claim("K63")
async def test_a_pod_that_is_sent_away_again_holds_nobody(
    pod: Make, node: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[float] = []
    monkeypatch.setattr(TokenBucket, "hold", lambda _, seconds: held.append(seconds))
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.errors = refusals(429, 3)
    async with scheduling(api):
        await api.until(lambda: bool(api.scheduled))
    assert len(held) == 1


@pytest.mark.claim("K41")
async def test_a_server_that_stays_busy_is_told(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.errors = refusals(429, 2)
    async with scheduling(api):
        await api.until(lambda: bool(api.scheduled))
    messages = [patch["status"]["conditions"][0]["message"] for patch in api.patches]
    assert messages == ["429 Denied: by a webhook"]


async def test_it_shows_that_its_event_loop_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "BEAT_SECONDS", 0.01)
    scheduler, _ = scheduler_of(FakeApi())
    began = scheduler.beat
    async with running(scheduler.watch()):
        await until(lambda: scheduler.beat > began + 0.02)


async def test_who_stands_by_binds_nothing_and_knows_all(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod(name="early")], nodes=[node()])
    scheduler, recorder = scheduler_of(api)
    async with running(scheduler.watch(), recorder.run()):
        await scheduler.known()
        api.send(PODS, "ADDED", pod(name="later"))
        await until(lambda: len(scheduler._pods.store) == 2)
        assert api.asked == scheduler.queue.pending("active") == 0
        async with running(scheduler.schedule()):
            await api.until(lambda: sorted(api.scheduled) == ["early", "later"])


class DeafApi(FakeApi):
    """Says nothing of the pods on a node."""

    async def list(self, path: str, params: Any, *, trim: Any) -> tuple[list[Any], str]:
        if is_running(params):
            raise ApiError(status=500, reason="InternalError", message="etcd")
        return await super().list(path, params, trim=trim)


@pytest.mark.claim("K64")
async def test_a_node_that_vanishes_before_its_pods_are_known_is_waited_for_no_more(
    pod: Make, node: Make
) -> None:
    api = DeafApi(pods=[pod()], nodes=[node()])
    async with scheduling(api) as scheduler:
        await until(lambda: "pods on slurm" in scheduler.lost)
        assert scheduler.synced == {"pods": True, "nodes": True, "pods on slurm": False}
        assert scheduler.lost["pods on slurm"] is not None
        assert not scheduler._scheduling
        api.send(NODES, "DELETED", version(node(), 2))
        await api.until(lambda: bool(api.events))
        assert scheduler.synced == {"pods": True, "nodes": True}
    assert api.events[0]["note"].startswith("no nodes available")


async def test_who_may_lead_no_more_begins_nothing(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(SECONDS):
            scheduler, _ = scheduler_of(api, leads=lambda: False)
            async with asyncio.TaskGroup() as group:
                group.create_task(scheduler.watch())
                group.create_task(scheduler.schedule())
    assert caught.group_contains(LeaseLostError, depth=2)
    assert api.asked == 0


async def test_a_stop_waits_for_what_is_under_way_and_begins_nothing(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod()], nodes=[node()])
    api.open.clear()
    async with scheduling(api) as scheduler:
        await until(lambda: api.asked == 1)
        finished = asyncio.create_task(scheduler.finish())
        api.send(PODS, "ADDED", pod(name="late"))
        await until(lambda: "alice/late" in scheduler._pods.store)
        assert not finished.done()
        api.open.set()
        await asyncio.wait_for(finished, SECONDS)
        await api.until(lambda: api.scheduled == ["web"])
    assert api.asked == 1


@pytest.mark.claim("K56")
async def test_it_counts_as_kube_scheduler_does(pod: Make, node: Make) -> None:
    registry = CollectorRegistry()
    gated = pod(name="gated", schedulingGates=[{"name": "example.org/quota"}])
    unfit = pod(name="unfit", nodeSelector={"disk": "ssd"})
    api = FakeApi(pods=[pod(), gated, unfit], nodes=[node()])
    async with scheduling(api, registry=registry) as scheduler:
        await api.until(lambda: len(api.events) == 2)
        await until(lambda: scheduler.queue.pending("unschedulable") == 1)
        assert scheduler.queue.pending("gated") == 1
    for result in ("scheduled", "unschedulable"):
        labels = {"result": result, "profile": "slurmlet-scheduler"}
        assert registry.get_sample_value("scheduler_schedule_attempts_total", labels) == 1
    came = {"event": "UnscheduledPodAdd", "queue": "gated"}
    assert registry.get_sample_value("scheduler_queue_incoming_pods_total", came) == 1
    sli = "scheduler_pod_scheduling_sli_duration_seconds_count"
    assert registry.get_sample_value(sli, {"attempts": "1"}) == 1


async def test_its_own_words_in_a_status_wake_nobody(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod(nodeSelector={"disk": "ssd"})], nodes=[node()])
    async with scheduling(api) as scheduler:
        await api.until(lambda: len(api.patches) == 1)
        told = version(pod(nodeSelector={"disk": "ssd"}), 2, generation=2)
        told["status"]["conditions"] = api.patches[0]["status"]["conditions"]
        api.send(PODS, "MODIFIED", told)
        await until(lambda: scheduler.queue.pending("unschedulable") == 1)
        changed = version(pod(), 3)
        api.send(PODS, "MODIFIED", changed)
        await api.until(lambda: bool(api.bindings))
    assert len(api.patches) == len(api.events) - 1 == 1


async def test_a_node_that_only_says_it_is_alive_wakes_nobody(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod(nodeSelector={"disk": "ssd"})], nodes=[node()])
    async with scheduling(api):
        await api.until(lambda: len(api.patches) == 1)
        beat = node()
        beat["metadata"]["resourceVersion"] = "2"
        api.send(NODES, "MODIFIED", beat)
        labelled = node(labels={"disk": "ssd"})
        labelled["metadata"]["resourceVersion"] = "3"
        api.send(NODES, "MODIFIED", labelled)
        await api.until(lambda: bool(api.bindings))
    assert len(api.patches) == 1


def full(node: Make, pods: int) -> dict[str, Any]:
    return {**node(), "status": {"allocatable": {"pods": str(pods)}}}


async def test_pods_on_a_node_are_counted_from_their_binding_on(pod: Make, node: Make) -> None:
    api = FakeApi(pods=[pod(), pod(name="refused")], nodes=[node()])
    api.running = [pod(name="old")]
    api.open.clear()
    async with scheduling(api) as scheduler:
        await until(lambda: api.asked == 2)
        assert scheduler._occupancy.running == {"slurm": 3}, "those that are being bound, too"
        api.errors = [ApiError(status=403, reason="Forbidden", message="denied")]
        api.open.set()
        await until(lambda: scheduler._occupancy.running == {"slurm": 2})
        await api.until(lambda: len(api.bindings) == 2)
        api.send(RUNNING, "ADDED", version(pod(), 5))
        api.send(RUNNING, "DELETED", version(pod(name="old"), 6))
        await until(lambda: scheduler._occupancy.running == {"slurm": 2})
        api.send(NODES, "DELETED", version(node(), 7))
        await until(lambda: scheduler._occupancy.running == {})


@pytest.mark.claim("K43")
@pytest.mark.parametrize(("allowed", "woken"), [(2, True), (3, False)])
async def test_a_pod_that_leaves_a_full_node_wakes_those_that_wait(
    pod: Make, node: Make, allowed: int, woken: bool
) -> None:
    registry = CollectorRegistry()
    api = FakeApi(pods=[pod(nodeSelector={"disk": "ssd"})], nodes=[full(node, allowed)])
    api.running = [pod(name="one"), pod(name="two")]
    async with scheduling(api, registry=registry) as scheduler:
        await until(lambda: scheduler.queue.pending("unschedulable") == 1)
        api.send(RUNNING, "DELETED", version(pod(name="one"), 5))
        await until(lambda: scheduler._occupancy.running == {"slurm": 1})
        await asyncio.sleep(0)
        counts = [
            registry.get_sample_value(
                "scheduler_queue_incoming_pods_total",
                {"event": "AssignedPodDelete", "queue": place},
            )
            for place in ("active", "backoff")
        ]
    assert any(counts) == woken


async def test_a_place_is_given_once_also_while_requests_wait_for_their_turn(
    pod: Make, node: Make
) -> None:
    pods = [pod(name=f"web-{number}") for number in range(3)]
    api = FakeApi(pods=pods, nodes=[full(node, 1)])
    limit = TokenBucket(rate=20, burst=1)
    await limit.acquire()
    async with scheduling(api, limit=limit) as scheduler:
        await until(lambda: scheduler.queue.pending("unschedulable") == 2)
    assert len(api.bindings) == 1


@pytest.mark.claim("K60")
@pytest.mark.parametrize(
    "error",
    [
        ApiError(status=404, reason="NotFound", message="pods web not found"),
        ApiError(status=403, reason="Forbidden", message="denied"),
        UnreachableError("refused", sent=False),
    ],
    ids=str,
)
async def test_a_binding_that_failed_makes_room_for_those_that_wait(
    pod: Make, node: Make, error: Exception
) -> None:
    api = FakeApi(pods=[pod(), pod(name="second")], nodes=[full(node, 1)])
    api.open.clear()
    async with scheduling(api) as scheduler:
        await until(lambda: scheduler.queue.pending("unschedulable") == 1)
        assert "Too many pods" in api.patches[0]["status"]["conditions"][0]["message"]
        api.send(PODS, "DELETED", version(pod(), 2))
        await until(lambda: len(scheduler._pods.store) == 1)
        api.errors = [error]
        api.open.set()
        await api.until(lambda: api.scheduled == ["second"])


@pytest.mark.parametrize(
    ("allocatable", "most"),
    [
        ({"pods": "110"}, 110),
        ({"pods": "1k"}, 1000),
        ({}, float("inf")),
        ({"pods": "x"}, float("inf")),
    ],
)
def test_how_many_pods_a_node_takes(allocatable: dict[str, str], most: float) -> None:
    assert most_pods({"status": {"allocatable": allocatable}}) == most
    assert most_pods({"status": {}}) == INF
