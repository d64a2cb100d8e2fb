"""Writes events beside the work, so that telling never holds up binding."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slurmlet.common.kube import Api, ApiError, Object, UnreachableError
from slurmlet.common.ratelimit import TokenBucket
from slurmlet.scheduler.events import Reason, cut, event, series

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Events that wait for the API server, half a kilobyte each: as many as pods may be known."""
MAX_COUNTS = MAX_WAITING // 2
"""Events that wait when no more counts are put behind them: those that are new must find room."""
MAX_SERIES = 10_000
"""Failures that are remembered, to count their repetitions; the longest untouched is dropped."""
WRITERS = 8
TRIES = 12
"""Of one event, as client-go: with these pauses about a minute and a half."""
BACKOFF_SECONDS = (0.5, 10.0)
SERIES_SECONDS = 360.0
"""What is not repeated for so long begins anew, as in client-go's recorder."""
SWEEP_SECONDS = 60.0
"""Between writes of how often failures were repeated: a storm of them becomes one patch each."""

Lost = Callable[[str], None]
"""Told of each event that is not written, and why: `full`, `refused` or `unreachable`."""


@dataclass(slots=True)
class _Series:
    path: str
    body: Object
    count: int
    last: datetime
    touched: float
    written: int = 1


@dataclass(frozen=True, slots=True)
class _Write:
    """An event to create, or, with a patch, how often one was observed."""

    path: str
    body: Object
    patch: Object | None = None


class Recorder:
    """`tell` may be called while `run` runs; `drain` waits until what was told is written."""

    def __init__(self, api: Api, *, limit: TokenBucket, lost: Lost = lambda _why: None) -> None:
        self._api = api
        self._limit = limit
        self._lost = lost
        self._instance = socket.gethostname()
        self._queue: asyncio.Queue[_Write] = asyncio.Queue(MAX_WAITING)
        self._series: dict[tuple[str, str, str], _Series] = {}

    def tell(self, pod: Mapping[str, Any], *, reason: Reason, note: str) -> None:
        """Write an event soon; a failure that was told just now is counted up later instead."""
        now = datetime.now(UTC)
        key = (pod["metadata"]["uid"], reason, cut(note))
        known = self._series.pop(key, None)
        if known and time.monotonic() - known.touched < SERIES_SECONDS:
            known.count, known.last, known.touched = known.count + 1, now, time.monotonic()
            self._series[key] = known
            return
        write = self._creation(pod, reason=reason, note=note, now=now)
        if self._put(write) and reason == "FailedScheduling":
            if len(self._series) >= MAX_SERIES:
                self._series.pop(next(iter(self._series)))
            self._series[key] = _Series(write.path, write.body, 1, now, time.monotonic())

    async def write(self, pod: Mapping[str, Any], *, reason: Reason, note: str) -> None:
        """Write an event now."""
        await self._write(self._creation(pod, reason=reason, note=note, now=datetime.now(UTC)))

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._writer())
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                self._sweep()

    async def drain(self) -> None:
        """Return when all that was told is written."""
        while not self._sweep():
            await self._queue.join()
        await self._queue.join()

    def _sweep(self) -> bool:
        """Have counts written that changed, and forget what is over. Whether there was room."""
        for key, one in list(self._series.items()):
            if one.count > one.written:
                if self._queue.qsize() >= MAX_COUNTS:
                    return False
                patch = series(one.count, now=one.last)
                self._put(_Write(one.path, one.body, patch))
                one.written = one.count
            elif time.monotonic() - one.touched >= SERIES_SECONDS:
                del self._series[key]
        return True

    def _creation(
        self, pod: Mapping[str, Any], *, reason: Reason, note: str, now: datetime
    ) -> _Write:
        body = event(pod, reason=reason, note=note, instance=self._instance, now=now)
        path = f"/apis/events.k8s.io/v1/namespaces/{pod['metadata']['namespace']}/events"
        return _Write(path, body)

    def _put(self, write: _Write) -> bool:
        try:
            self._queue.put_nowait(write)
        except asyncio.QueueFull:
            self._lose(write, "full", f"{MAX_WAITING} events wait")
            return False
        return True

    async def _writer(self) -> None:
        while True:
            write = await self._queue.get()
            try:
                await self._write(write)
            finally:
                self._queue.task_done()

    async def _write(self, write: _Write) -> None:
        for attempt in range(1, TRIES + 1):
            await self._limit.acquire()
            try:
                await self._send(write)
            except UnreachableError as error:
                why, asked = str(error), 0.0
            except ApiError as error:
                if error.status == 409 and write.patch is None:
                    return  # told already, by another attempt or by another scheduler of ours
                if _is_final(error):
                    self._lose(write, "refused", str(error))
                    return
                why, asked = str(error), error.retry_after
            else:
                return
            low, high = BACKOFF_SECONDS
            pause = random.uniform(0.5, 1) * min(high, low * 2.0**attempt)
            if attempt < TRIES:
                await asyncio.sleep(max(pause, asked))
        self._lose(write, "unreachable", why)

    async def _send(self, write: _Write) -> None:
        if write.patch is None:
            await self._api.create(write.path, write.body)
            return
        try:
            await self._api.patch(f"{write.path}/{write.body['metadata']['name']}", write.patch)
        except ApiError as error:
            if error.status != 404:
                raise
            # The API server forgets events after an hour, the pod still fits nowhere.
            await self._api.create(write.path, {**write.body, **write.patch})

    def _lose(self, write: _Write, why: str, said: str) -> None:
        self._lost(why)
        about = write.body["regarding"]
        log.warning(
            "%s/%s: event %s lost: %s",
            about["namespace"],
            about["name"],
            write.body["reason"],
            said,
        )


def _is_final(error: ApiError) -> bool:
    """Whether the same answer would come again. An API server that has just started forbids what it
    permits a second later, when it has read who may do what."""
    terminating = error.status == 403 and "being terminated" in error.message
    return terminating or error.status in (400, 404, 405, 413, 422)
