"""Which pods wait for what: the scheduling queue, in kube-scheduler's terms."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from slurmlet.common.kube import Object
from slurmlet.scheduler.backoff import backoff

Place = Literal["active", "backoff", "unschedulable", "gated"]
PLACES: tuple[Place, ...] = ("active", "backoff", "unschedulable", "gated")

FAILED = "ScheduleAttemptFailure"
RESTED = "BackoffComplete"

SEEN_SECONDS = 60.0
"""Within these the watch tells that a pod was bound, or lists all pods anew."""

Count = Callable[[str, Place], None]
"""Called with the event that brought a pod somewhere, and where."""


@dataclass(slots=True)
class Doubt:
    """A binding of which nobody knows whether it was done, and what the API server said of it."""

    pod: Object
    node: str
    said: str = ""


@dataclass(slots=True, eq=False)
class Waiting:
    """A pod in the queue. Times are those of time.monotonic(); `added` is when it could first have
    been scheduled, `place` None while it is tried and after it was bound. `doubt` is set from the
    request of a binding until it is known what became of it, and `rebuffs` counts answers since the
    last verdict that are normal once."""

    key: str
    added: float
    place: Place | None = None
    failures: int = 0
    rebuffs: int = 0
    rested_at: float = 0.0
    woken_by: str | None = None
    doubt: Doubt | None = field(default=None, repr=False)
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class SchedulingQueue:
    """Hands out each pod that has a chance, one attempt at a time.

    A pod that fits nowhere waits until `wake` or `add`; one whose attempt failed rests first. It
    grows with the pods that it was told of, and shrinks when they are forgotten.
    """

    def __init__(self, count: Count = lambda _event, _place: None) -> None:
        self._count = count
        self._waiting: dict[str, Waiting] = {}
        self._unschedulable: dict[str, Waiting] = {}
        self._tried: set[Waiting] = set()
        self._ready: asyncio.Queue[Waiting] = asyncio.Queue()
        self._pending: Counter[Place] = Counter()

    def pending(self, place: Place) -> int:
        """How many pods wait there."""
        return self._pending[place]

    def add(self, key: str, event: str) -> None:
        """A pod is new, or changed in what a verdict reads."""
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = Waiting(key, added=time.monotonic())
            self._move(waiting, "active", event)
        elif waiting in self._tried:
            waiting.woken_by = event
        elif waiting.place == "gated":
            waiting.added = time.monotonic()
            self._move(waiting, "active", event)
        elif waiting.place == "unschedulable":
            self._release(waiting, event)

    def recall(self, key: str, event: str) -> None:
        """A pod is not bound by now, whatever was said of it."""
        waiting = self._waiting.get(key)
        if waiting and waiting.place is None and waiting not in self._tried:
            if time.monotonic() < waiting.rested_at + SEEN_SECONDS:
                return
            self.forget(key)
        self.add(key, event)

    def gate(self, key: str, event: str) -> None:
        """A pod is there and may not be tried yet."""
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = Waiting(key, added=time.monotonic())
            self._move(waiting, "gated", event)

    def forget(self, key: str) -> None:
        """A pod is gone, bound or not ours. One whose binding is in doubt is still handed out until
        it is not, beside another pod of its name."""
        waiting = self._waiting.pop(key, None)
        if waiting and not waiting.doubt:
            self._tried.discard(waiting)
            self._leave(waiting)

    def knows(self, waiting: Waiting) -> bool:
        """Whether it was not forgotten."""
        return self._waiting.get(waiting.key) is waiting

    def wake(self, event: str) -> None:
        """Something changed for all that fit nowhere, and for those that are tried just now."""
        for waiting in self._tried:
            waiting.woken_by = event
        for waiting in list(self._unschedulable.values()):
            self._release(waiting, event)

    async def take(self) -> Waiting:
        """The next pod to try; `bound`, `refused` or `failed` must follow."""
        while True:
            waiting = await self._ready.get()
            # What was forgotten or gated meanwhile is still in line.
            if waiting.place == "active" and (waiting.doubt or self.knows(waiting)):
                self._leave(waiting)
                self._tried.add(waiting)
                return waiting

    def bound(self, waiting: Waiting) -> None:
        """It needs no further attempt; whether it still is there the watch says."""
        self._tried.discard(waiting)
        waiting.rested_at = time.monotonic()

    def refused(self, waiting: Waiting) -> None:
        """It fits nowhere, and its author was told."""
        waiting.rebuffs = 0
        if self._rest(waiting, 0.0):
            if waiting.woken_by:
                self._release(waiting, waiting.woken_by)
            else:
                self._move(waiting, "unschedulable", FAILED)

    def failed(self, waiting: Waiting, *, retry_after: float = 0.0) -> None:
        """The attempt came to no end; another follows by itself, not before so many seconds."""
        if self._rest(waiting, retry_after):
            self._release(waiting, FAILED)

    def _rest(self, waiting: Waiting, seconds: float) -> bool:
        """Whether another attempt may follow."""
        self._tried.discard(waiting)
        waiting.failures += 1
        waiting.rested_at = time.monotonic() + max(backoff(waiting.failures), seconds)
        return waiting.doubt is not None or self.knows(waiting)

    def _release(self, waiting: Waiting, event: str) -> None:
        pause = waiting.rested_at - time.monotonic()
        if pause <= 0:
            self._move(waiting, "active", event)
            return
        self._move(waiting, "backoff", event)
        loop = asyncio.get_running_loop()
        waiting.timer = loop.call_later(pause, self._move, waiting, "active", RESTED)

    def _move(self, waiting: Waiting, place: Place, event: str) -> None:
        self._leave(waiting)
        waiting.place = place
        self._pending[place] += 1
        self._count(event, place)
        if place == "active":
            waiting.woken_by = None
            self._ready.put_nowait(waiting)
        elif place == "unschedulable":
            self._unschedulable[waiting.key] = waiting

    def _leave(self, waiting: Waiting) -> None:
        if waiting.timer:
            waiting.timer.cancel()
            waiting.timer = None
        if waiting.place is None:
            return
        self._pending[waiting.place] -= 1
        if waiting.place == "unschedulable":
            del self._unschedulable[waiting.key]
        waiting.place = None
