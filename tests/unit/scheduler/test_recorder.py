import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from slurmlet.common.kube import Api, ApiError, UnreachableError
from slurmlet.common.ratelimit import TokenBucket
from slurmlet.scheduler import recorder as module
from slurmlet.scheduler.recorder import Recorder

Make = Callable[..., dict[str, Any]]
SECONDS = 5
EVENTS = "/apis/events.k8s.io/v1/namespaces/alice/events"


class FakeApi:
    """Events by name; `errors` answer first, one in `after` answers what was done."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.errors: list[Exception] = []
        self.after: list[Exception] = []
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def _ask(self) -> None:
        self.asked += 1
        await self.open.wait()
        if self.errors:
            raise self.errors.pop(0)

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == EVENTS
        await self._ask()
        if body["metadata"]["name"] in self.events:
            raise ApiError(status=409, reason="AlreadyExists", message="")
        self.events[body["metadata"]["name"]] = dict(body)
        if self.after:
            raise self.after.pop(0)
        return body

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        await self._ask()
        name = path.removeprefix(f"{EVENTS}/")
        if name not in self.events:
            raise ApiError(status=404, reason="NotFound", message="")
        self.events[name] |= body
        return body

    @property
    def told(self) -> Any:
        """Reason and count of each event, the count None where it was observed once."""
        return [
            (event["reason"], (event.get("series") or {}).get("count"))
            for event in self.events.values()
        ]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.001, 0.002))


@asynccontextmanager
async def recording(
    api: FakeApi, lost: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Recorder]:
    recorder = Recorder(cast(Api, api), limit=TokenBucket(rate=1e6, burst=1000), lost=lost)
    task = asyncio.create_task(recorder.run())
    yield recorder
    await asyncio.wait_for(recorder.drain(), SECONDS)
    task.cancel()


@pytest.mark.claim("K42")
async def test_a_failure_that_is_repeated_is_counted_in_its_event(pod: Make) -> None:
    api = FakeApi()
    async with recording(api) as recorder:
        for _ in range(7):
            recorder.tell(pod(), reason="FailedScheduling", note="no node")
        recorder.tell(pod(), reason="FailedScheduling", note="another reason")
        recorder.tell(pod(name="job"), reason="FailedScheduling", note="no node")
    assert sorted(api.told, key=str) == [
        ("FailedScheduling", 7),
        ("FailedScheduling", None),
        ("FailedScheduling", None),
    ]
    (counted,) = (event for event in api.events.values() if "series" in event)
    assert counted["series"]["lastObservedTime"] >= counted["eventTime"]
    assert api.asked == 4, "one patch for six repetitions"


async def test_a_count_is_written_once_in_a_while(
    pod: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.01)
    api = FakeApi()
    async with recording(api) as recorder:
        recorder.tell(pod(), reason="FailedScheduling", note="no node")
        recorder.tell(pod(), reason="FailedScheduling", note="no node")
        async with asyncio.timeout(SECONDS):
            while api.told != [("FailedScheduling", 2)]:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def test_after_a_long_time_a_failure_is_told_anew_and_nothing_is_kept(
    pod: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SERIES_SECONDS", 0.0)
    api = FakeApi()
    async with recording(api) as recorder:
        recorder.tell(pod(), reason="FailedScheduling", note="no node")
        recorder.tell(pod(), reason="FailedScheduling", note="no node")
        recorder._sweep()
        assert not recorder._series
    assert len(api.events) == 2


async def test_the_count_of_an_event_that_the_server_forgot_makes_a_new_one(pod: Make) -> None:
    api = FakeApi()
    async with recording(api) as recorder:
        recorder.tell(pod(), reason="FailedScheduling", note="no node")
        await recorder.drain()
        api.events.clear()
        recorder.tell(pod(), reason="FailedScheduling", note="no node")
    assert api.told == [("FailedScheduling", 2)]


@pytest.mark.claim("K40")
async def test_a_pod_is_told_to_be_scheduled_once_however_often_it_is_said(pod: Make) -> None:
    first, second = FakeApi(), FakeApi()
    second.events = first.events
    first.after = [UnreachableError("the answer was lost")]
    for api in (first, second):
        async with recording(api) as recorder:
            recorder.tell(pod(), reason="Scheduled", note="to slurm")
    assert first.told == [("Scheduled", None)]
    async with recording(second) as recorder:
        again = pod()
        again["metadata"]["uid"] = "another pod of that name"
        recorder.tell(again, reason="Scheduled", note="to slurm")
    assert len(first.told) == 2


async def test_a_server_that_fails_for_a_while_loses_nothing(pod: Make) -> None:
    api, lost = FakeApi(), list[str]()
    api.errors = [
        UnreachableError("refused"),
        ApiError(status=500, reason="", message=""),
        ApiError(status=403, reason="Forbidden", message="cannot create resource events"),
        ApiError(status=429, reason="", message="", retry_after=0.01),
    ]
    async with recording(api, lost.append) as recorder:
        recorder.tell(pod(), reason="Scheduled", note="to slurm")
    assert (api.told, lost) == ([("Scheduled", None)], [])


async def test_what_is_lost_is_said_and_counted(
    pod: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "TRIES", 2)
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    api, lost = FakeApi(), list[str]()
    api.errors = [
        ApiError(status=403, reason="Forbidden", message="namespace alice is being terminated")
    ]
    async with recording(api, lost.append) as recorder:
        await recorder.write(pod(), reason="Scheduled", note="to slurm")
        api.errors = [UnreachableError("refused")] * 2
        await recorder.write(pod(), reason="Scheduled", note="to slurm")
        for number in range(3):
            recorder.tell(pod(name=f"job-{number}"), reason="Scheduled", note="to slurm")
    assert lost == ["refused", "unreachable", "full"]
    assert (
        "alice/web: event Scheduled lost: 403 Forbidden: namespace alice is being terminated"
        in caplog.text
    )
    assert "alice/job-2: event Scheduled lost: 2 events wait" in caplog.text


async def test_what_is_remembered_has_a_bound(pod: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SERIES", 3)
    api = FakeApi()
    async with recording(api) as recorder:
        for number in range(10):
            recorder.tell(pod(name=f"job-{number}"), reason="FailedScheduling", note="no node")
        assert len(recorder._series) == 3


async def test_counts_leave_room_for_events(pod: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 6)
    monkeypatch.setattr(module, "MAX_COUNTS", 3)
    api, lost = FakeApi(), list[str]()
    async with recording(api, lost.append) as recorder:
        for number in range(6):
            recorder.tell(pod(name=f"job-{number}"), reason="FailedScheduling", note="no node")
        await recorder.drain()
        api.open.clear()
        for number in range(6):
            recorder.tell(pod(name=f"job-{number}"), reason="FailedScheduling", note="no node")
        recorder._sweep()
        for number in range(3):
            recorder.tell(pod(name=f"web-{number}"), reason="Scheduled", note="to slurm")
        api.open.set()
    assert lost == []
    assert sorted(api.told, key=str) == [("FailedScheduling", 2)] * 6 + [("Scheduled", None)] * 3
