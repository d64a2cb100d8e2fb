"""Leader election by a Lease, as client-go's: of several schedulers one binds.

What the holder writes by its own clock is never compared with ours: a lease is free when it has not
changed for its duration, measured here (client-go, tools/leaderelection).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slurmlet.common.kube import Api, ApiError, Object, UnreachableError
from slurmlet.scheduler.events import micro_time

log = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Somebody else may lead by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Seconds: a lease is free when it was not renewed for `duration`, its holder gives up when it
    could not renew for `deadline`, and everybody tries each `retry`."""

    duration: int
    deadline: float
    retry: float


@dataclass(frozen=True, slots=True)
class Observed:
    """A lease as the API server has it, and when we first saw it so."""

    lease: Object
    since: float

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.lease.get("spec") or {}

    @property
    def holder(self) -> str:
        return str(self.spec.get("holderIdentity") or "")

    @property
    def renewed(self) -> str:
        """By its holder's clock."""
        return str(self.spec.get("renewTime") or "")

    def is_free(self, now: float) -> bool:
        """Whether anybody may take it."""
        return not self.holder or now >= self.since + (self.spec.get("leaseDurationSeconds") or 0)


def observe(before: Observed | None, lease: Object, *, now: float) -> Observed:
    """What we know now; an unchanged lease is as old as it was."""
    if before is not None and before.spec == (lease.get("spec") or {}):
        return Observed(lease, before.since)
    return Observed(lease, now)


def held(spec: Mapping[str, Any], *, identity: str, duration: int, now: datetime) -> Object:
    """The spec with which `identity` takes or renews a lease."""
    written = micro_time(now)
    same = spec.get("holderIdentity") == identity
    transitions = spec.get("leaseTransitions") or 0
    return {
        **spec,
        "holderIdentity": identity,
        "leaseDurationSeconds": duration,
        "acquireTime": spec.get("acquireTime") if same else written,
        "renewTime": written,
        # A lease that is made is taken from nobody.
        "leaseTransitions": transitions if same or not spec else transitions + 1,
    }


def released(spec: Mapping[str, Any], *, now: datetime) -> Object:
    """The spec with which a holder gives a lease up: anybody may take it at once."""
    return {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": micro_time(now)}


class Election:
    """`acquire`, then `keep` until it raises or is cancelled, then `release`."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        terms: Terms,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.previous_renewal = ""
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._terms = terms
        self._clock = clock
        self._observed: Observed | None = None
        self._renewed_at = -float("inf")

    def leads(self) -> bool:
        """Whether nobody else can hold the lease yet."""
        return self._left() > 0

    async def acquire(self) -> None:
        """Return when the lease is ours; `previous_renewal` is then when its last holder renewed
        it, by that one's clock, or empty."""
        said = ""
        while True:
            before = self._observed
            if await self._try(self._terms.deadline / 2):
                self.previous_renewal = before.renewed if before else ""
                log.info("%s leads", self._identity)
                return
            holder = self._observed.holder if self._observed else ""
            if holder != said:
                log.info("%s leads, we stand by", holder or "nobody")
                said = holder
            await asyncio.sleep(self._terms.retry)

    async def keep(self) -> None:
        """Renew until cancelled.

        Raises:
            LeaseLostError: it could not be renewed in time, or another has it.
        """
        pause = self._terms.retry
        while True:
            # Half of what is left at most, so that there is time for a last attempt.
            await asyncio.sleep(max(0.0, min(pause, self._left() / 2)))
            began = self._clock()
            if await self._try(max(0.0, min(self._terms.deadline / 2, self._left()))):
                pause = self._terms.retry
                continue
            pause = max(0.0, self._terms.retry - (self._clock() - began))
            if not self.leads():
                raise LeaseLostError(
                    f"lease {self._namespace}/{self._name} was not renewed for"
                    f" {self._terms.deadline:g} s"
                )
            if self._observed and self._observed.holder != self._identity:
                raise LeaseLostError(
                    f"lease {self._namespace}/{self._name} is held by {self._observed.holder!r}"
                )

    async def release(self) -> None:
        """Give the lease up, if it is ours and the API server can be reached."""
        self._renewed_at = -float("inf")
        if self._observed is None or self._observed.holder != self._identity:
            return
        spec = released(self._observed.spec, now=datetime.now(UTC))
        try:
            async with asyncio.timeout(self._terms.deadline / 2):
                await self._write(spec)
            log.info("%s leads no more", self._identity)
        except (ApiError, UnreachableError, TimeoutError) as error:
            log.warning("lease %s/%s was not released: %s", self._namespace, self._name, error)

    def _left(self) -> float:
        return self._renewed_at + self._terms.deadline - self._clock()

    async def _try(self, seconds: float) -> bool:
        """Whether the lease was taken or renewed within so many seconds."""
        started = self._clock()
        try:
            async with asyncio.timeout(seconds):
                taken = await self._take_or_renew()
        except (ApiError, UnreachableError, TimeoutError) as error:
            conflict = isinstance(error, ApiError) and error.status == 409
            # Another was faster, or our last write was heard although we did not hear so.
            level = logging.DEBUG if conflict else logging.WARNING
            why = str(error) or f"no answer within {seconds:.1f} s"
            log.log(level, "lease %s/%s: %s", self._namespace, self._name, why)
            return False
        if taken:
            self._renewed_at = started
        return taken

    async def _take_or_renew(self) -> bool:
        if self._observed and self._observed.holder == self._identity:
            try:
                await self._write(self._held(self._observed.spec))
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
            else:
                return True
        try:
            lease = await self._api.get(f"{self._collection}/{self._name}")
        except ApiError as error:
            if error.status != 404:
                raise
            await self._create()
            return True
        now = self._clock()
        self._observed = observe(self._observed, lease, now=now)
        if self._observed.holder != self._identity and not self._observed.is_free(now):
            return False
        await self._write(self._held(self._observed.spec))
        return True

    def _held(self, spec: Mapping[str, Any]) -> Object:
        return held(
            spec,
            identity=self._identity,
            duration=self._terms.duration,
            now=datetime.now(UTC),
        )

    async def _create(self) -> None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._held({}),
        }
        lease = await self._api.create(self._collection, body)
        self._observed = observe(self._observed, lease, now=self._clock())

    async def _write(self, spec: Object) -> None:
        """Replace the lease as we know it; the API server refuses if it is another by now."""
        assert self._observed is not None
        body = {**self._observed.lease, "spec": spec}
        lease = await self._api.replace(f"{self._collection}/{self._name}", body)
        self._observed = observe(self._observed, lease, now=self._clock())
