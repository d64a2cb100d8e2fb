"""One scheduler of possibly several: stands by, leads, and stops in order."""

import asyncio
import logging
import socket
import uuid
from contextlib import suppress

from prometheus_client import CollectorRegistry, ProcessCollector

from slurmlet.common.kube import Api
from slurmlet.common.ratelimit import TokenBucket
from slurmlet.scheduler.config import SchedulerConfig
from slurmlet.scheduler.leader import Election, LeaseLostError
from slurmlet.scheduler.loop import Scheduler
from slurmlet.scheduler.metrics import metrics_in, pending_in
from slurmlet.scheduler.recorder import Recorder
from slurmlet.scheduler.recovery import tell_untold

log = logging.getLogger(__name__)

FINISH_SECONDS = 10.0
"""At a stop, for bindings that are under way; whoever leads next waits for them, too."""
DRAIN_SECONDS = 10.0
"""At a stop, for events: together with the above less than the unit's TimeoutStopSec."""


class Replica:
    """`run` it once. `scheduler` and `registry` are for those who look after it."""

    def __init__(self, api: Api, config: SchedulerConfig, *, lease_api: Api) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._api = api
        self._config = config
        self._metrics = metrics_in(self.registry)
        # With a connection of its own: of many that went dead one after the other would be tried
        # until the lease is lost.
        self._election = Election(
            lease_api,
            namespace=config.lease_namespace,
            name=config.lease_name,
            identity=f"{socket.gethostname()}_{uuid.uuid4()}",
            terms=config.terms,
        )
        # Each its own, as kube-scheduler has it: events must not slow bindings down.
        self._recorder = Recorder(
            api, limit=self._bucket(), lost=lambda why: self._metrics.events_lost.labels(why).inc()
        )
        self.scheduler = Scheduler(
            api,
            names=config.names,
            recorder=self._recorder,
            metrics=self._metrics,
            limit=self._bucket(),
            leads=self._election.leads if config.leader_elect else lambda: True,
        )
        pending_in(self.registry, self.scheduler.queue.pending)
        self._leading = self._metrics.leader.labels(name=config.lease_name)
        self._leading.set(0)
        self._leading_now = False
        self._keeping: asyncio.Task[None] | None = None

    async def run(self, stopped: asyncio.Event) -> None:
        """Work until `stopped` is set.

        Raises:
            LeaseLostError: it led, and another may lead by now.
        """
        try:
            await self._run(stopped)
        except BaseExceptionGroup as group:
            lost: BaseException | None = group.subgroup(LeaseLostError)
            if lost is None:
                raise
            while isinstance(lost, BaseExceptionGroup):
                lost = lost.exceptions[0]
            raise lost from None

    async def _run(self, stopped: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.scheduler.watch()), group.create_task(self._lead())]
            await stopped.wait()
            if self._leading_now:
                await self._stop()
            for task in tasks:
                task.cancel()

    async def _lead(self) -> None:
        # The watches of who stands by are warm: whoever takes over binds at once.
        await self.scheduler.known()
        if self._config.leader_elect:
            await self._election.acquire()
        self._leading.set(1)
        self._leading_now = True
        async with asyncio.TaskGroup() as group:
            if self._config.leader_elect:
                self._keeping = group.create_task(self._election.keep())
            group.create_task(self._recorder.run())
            group.create_task(self.scheduler.schedule())
            group.create_task(
                tell_untold(
                    self._api,
                    recorder=self._recorder,
                    names=self._config.names,
                    nodes=list(self.scheduler.nodes),
                    renewed=self._election.previous_renewal,
                )
            )

    async def _stop(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.scheduler.finish(), FINISH_SECONDS)
        if self._keeping:
            self._keeping.cancel()
            await self._election.release()
        self._leading.set(0)
        try:
            await asyncio.wait_for(self._recorder.drain(), DRAIN_SECONDS)
        except TimeoutError:
            log.warning("some events were not written within %.0f s", DRAIN_SECONDS)

    def _bucket(self) -> TokenBucket:
        return TokenBucket(rate=self._config.qps, burst=self._config.burst)
