"""Follows all jobs with one question to Slurm at a time."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from slurmlet.kubelet.slurm.process import CommandError
from slurmlet.kubelet.slurm.query import JobFacts, Slurm
from slurmlet.kubelet.slurm.states import Meaning, observe

log = logging.getLogger(__name__)

SPACING_SECONDS = 1.0
"""Between two questions when something waits for an answer: Slurm's rate limit is 2 per second."""
BURST_SECONDS = 4.0
"""That much sooner after a quiet time: a supervisor's hello waits for the answer, and Slurm's
limiter lets 30 questions pass before it slows down a user."""
SLOW_FACTOR = 10
"""A question that takes long is asked less often: at most a tenth of the time goes into it."""
SLOWEST_SECONDS = 15.0
"""But so often at least, because a slurmctld that restarts makes one question take very long."""
PAST_SECONDS = 10.0
"""Between two looks into the accounting, which lags behind by some seconds."""
LOST_SECONDS = 600.0
"""A job that slurmctld does not know and accounting does not see end is given up after this."""


class Pace:
    """How long to wait after a question; a quiet time lets some follow each other at once."""

    def __init__(self) -> None:
        self._paid_until = 0.0

    def pause(self, *, now: float, took: float) -> float:
        """Seconds to wait at the time `now`, after a question that took so many."""
        cost = min(max(SPACING_SECONDS, took * SLOW_FACTOR), SLOWEST_SECONDS)
        self._paid_until = max(self._paid_until, now) + cost
        return max(0.0, self._paid_until - now - BURST_SECONDS)


class JobWatch:
    """`problem` is why the last question failed, empty after a success."""

    def __init__(self, slurm: Slurm, *, interval: float) -> None:
        self.problem = ""
        self._slurm = slurm
        self._interval = interval
        self._on_change: dict[int, Callable[[], None]] = {}
        self._facts: dict[int, JobFacts | None] = {}
        self._absent_since: dict[int, float] = {}
        self._past_asked = 0.0
        self._waiters: list[tuple[int, asyncio.Future[JobFacts | None]]] = []
        self._wake = asyncio.Event()

    def track(self, job_id: int, on_change: Callable[[], None]) -> None:
        """Follow a job until `untrack`; `on_change` is called when its facts change."""
        self._on_change[job_id] = on_change
        if job_id not in self._facts:
            self._facts[job_id] = None
            self.poke()

    def tracks(self, job_id: int) -> bool:
        return job_id in self._facts

    def untrack(self, job_id: int) -> None:
        self._facts.pop(job_id, None)
        self._on_change.pop(job_id, None)
        self._absent_since.pop(job_id, None)

    def facts(self, job_id: int) -> JobFacts | None:
        """What was last heard of a tracked job; None until the first answer."""
        return self._facts.get(job_id)

    def poke(self) -> None:
        """Ask soon instead of at the next interval."""
        self._wake.set()

    async def fresh(self, job_id: int) -> JobFacts | None:
        """What slurmctld says of a job from now on; None if it does not know it.

        Raises:
            CommandError: it did not answer.
        """
        future: asyncio.Future[JobFacts | None] = asyncio.get_running_loop().create_future()
        self._waiters.append((job_id, future))
        self.poke()
        return await future

    async def run(self) -> None:
        """Ask until cancelled."""
        pace = Pace()
        while True:
            started = time.monotonic()
            asked = await self.poll()
            now = time.monotonic()
            pause = pace.pause(now=now, took=now - started) if asked else 0.0
            await asyncio.sleep(pause)
            # Python 3.11's wait_for forgets a cancellation that comes together with what it awaits.
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._interval - pause)):
                    await self._wake.wait()

    async def poll(self) -> bool:
        """One question about all jobs; False if there was nothing to ask."""
        self._wake.clear()
        waiters, self._waiters = self._waiters, []
        tracked = set(self._facts)
        asked = tracked | {job_id for job_id, _ in waiters}
        if not asked:
            return False
        try:
            live = await self._slurm.live(asked)
        except CommandError as error:
            self._failed(error, waiters)
            return True
        if self.problem:
            log.info("slurmctld answers again")
            self.problem = ""
        for job_id, future in waiters:
            if not future.done():
                future.set_result(live.get(job_id))
        for job_id in tracked & live.keys():
            self._absent_since.pop(job_id, None)
            self._learn(live[job_id])
        await self._look_back(sorted(tracked - live.keys()))
        return True

    def _failed(
        self, error: CommandError, waiters: list[tuple[int, asyncio.Future[JobFacts | None]]]
    ) -> None:
        if str(error) != self.problem:
            log.warning("nothing is known of the jobs now: %s", error)
        self.problem = str(error)
        for _, future in waiters:
            if not future.done():
                future.set_exception(CommandError(str(error)))

    async def _look_back(self, absent: list[int]) -> None:
        """Ask the accounting for jobs that slurmctld has forgotten."""
        now = time.monotonic()
        absent = [job_id for job_id in absent if not _has_ended(self._facts.get(job_id))]
        for job_id in absent:
            self._absent_since.setdefault(job_id, now)
        if not absent or now - self._past_asked < PAST_SECONDS:
            return
        self._past_asked = now
        try:
            past = await self._slurm.past(absent)
        except CommandError as error:
            log.warning("nothing is known of %d forgotten jobs: %s", len(absent), error)
            return
        for job_id in absent:
            job = past.get(job_id)
            if job and _has_ended(job):
                self._learn(job)
            elif now - self._absent_since.get(job_id, now) > LOST_SECONDS:
                known = job or self._facts.get(job_id) or JobFacts(job_id=job_id, state="", uid=0)
                log.warning("job %d is lost: Slurm does not know it any more", job_id)
                self._learn(replace(known, state="LOST"))

    def _learn(self, job: JobFacts) -> None:
        if job.job_id not in self._facts or self._facts[job.job_id] == job:
            return
        if not observe(job.state).known:
            log.warning("job %d: unknown state %r changes nothing", job.job_id, job.state)
        self._facts[job.job_id] = job
        self._on_change[job.job_id]()


def _has_ended(job: JobFacts | None) -> bool:
    return job is not None and observe(job.state).meaning is Meaning.ENDED
