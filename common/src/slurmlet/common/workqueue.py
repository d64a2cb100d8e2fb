"""Level-triggered work per key: many events, one run at a time per key, back-off on failure."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from slurmlet.common.kube import ApiError, UnreachableError

log = logging.getLogger(__name__)

BACKOFF_SECONDS = (0.2, 60.0)

Work = Callable[[str], Awaitable[float | None]]
"""Does what a key needs now; a returned number asks for another run after that many seconds."""


class WorkQueue:
    """Runs `work(key)` for every added key, at most `workers` keys at once and never one key twice
    at the same time. A key added while it runs is run again afterwards."""

    def __init__(self, work: Work, *, workers: int = 16) -> None:
        self._work = work
        self._workers = workers
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._running: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def add(self, key: str) -> None:
        """Ask for a run of this key, now or when its present run ends."""
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Ask for a run after some seconds; the earlier of two such requests wins."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self.add, key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._loop())

    async def _loop(self) -> None:
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._running.add(key)
            try:
                pause = await self._work(key)
                self._failures.pop(key, None)
            except Exception as error:
                # One key's error must not end the work on the others.
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                low, high = BACKOFF_SECONDS
                pause = random.uniform(0.5, 1) * min(high, low * 2 ** min(failures, 16))
                if isinstance(error, ApiError):
                    pause = max(pause, error.retry_after)
                # Where an answer of the API server was raised says nothing that it does not say.
                known = isinstance(error, ApiError | UnreachableError)
                log.warning(
                    "%s: failed %d times in a row: %s", key, failures, error, exc_info=not known
                )
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif pause is not None:
                self.add_after(key, pause)
