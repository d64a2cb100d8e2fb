"""Candidates against a fake lease with resourceVersions, by a clock that the test moves."""

import asyncio
import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.common.kube import Api, ApiError, UnreachableError
from slurmlet.scheduler.leader import Election, LeaseLostError, Observed, Terms, held, observe

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
TERMS = Terms(duration=15, deadline=10, retry=2)
SECONDS = 5
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/slurmlet-scheduler"


class FakeApi:
    """One lease. `error` is raised instead of an answer; with `deaf` a write is done first."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.error: Exception | None = None
        self.deaf = False
        self.writes = 0

    def _answer(self) -> Any:
        if self.error:
            raise self.error
        return copy.deepcopy(self.lease)

    async def get(self, path: str) -> Any:
        assert (
            path == "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/slurmlet-scheduler"
        )
        if self.lease is None and not self.error:
            raise ApiError(status=404, reason="NotFound", message="")
        return self._answer()

    async def create(self, _path: str, body: Any) -> Any:
        if self.lease is not None:
            raise ApiError(status=409, reason="AlreadyExists", message="")
        return self._store(body)

    async def replace(self, _path: str, body: Any) -> Any:
        if self.error and not self.deaf:
            raise self.error
        if self.lease is None:
            raise ApiError(status=404, reason="NotFound", message="")
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(status=409, reason="Conflict", message="")
        return self._store(body)

    def _store(self, body: Any) -> Any:
        self.version += 1
        self.writes += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return self._answer()

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Moves by what is slept."""
    found = Clock()
    genuine = asyncio.sleep

    async def sleep(seconds: float) -> None:
        found.now += seconds
        await genuine(0)

    monkeypatch.setattr("slurmlet.scheduler.leader.asyncio.sleep", sleep)
    return found


Candidate = Callable[[str], Election]


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def candidate(api: FakeApi, clock: Clock) -> Candidate:
    def make(identity: str) -> Election:
        return Election(
            cast(Api, api),
            namespace="kube-system",
            name="slurmlet-scheduler",
            identity=identity,
            terms=TERMS,
            clock=clock,
        )

    return make


async def acquire(election: Election) -> None:
    await asyncio.wait_for(election.acquire(), SECONDS)


async def test_the_first_makes_the_lease_and_leads(api: FakeApi, candidate: Candidate) -> None:
    first = candidate("a")
    assert not first.leads()
    await acquire(first)
    assert first.leads()
    assert api.lease is not None
    spec = api.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("a", 15)
    assert spec["leaseTransitions"] == 0
    assert first.previous_renewal == ""


async def test_a_dead_leader_is_followed_after_the_lease_by_the_followers_own_clock(
    api: FakeApi, candidate: Candidate, clock: Clock
) -> None:
    await acquire(candidate("a"))
    assert api.lease is not None
    # Its clock is a year ahead, or behind: what it writes there is not believed.
    api.lease["spec"]["renewTime"] = "2039-01-01T00:00:00.000000Z"
    began = clock.now
    second = candidate("b")
    await acquire(second)
    assert TERMS.duration <= clock.now - began <= TERMS.duration + TERMS.retry
    assert (api.holder, api.lease["spec"]["leaseTransitions"]) == ("b", 1)
    assert second.previous_renewal == "2039-01-01T00:00:00.000000Z"


async def test_a_leader_that_renews_is_not_followed(
    api: FakeApi, candidate: Candidate, clock: Clock
) -> None:
    first, second = candidate("a"), candidate("b")
    await acquire(first)
    for _ in range(50):
        assert await first._try(5)
        clock.now += TERMS.retry
        assert not await second._try(5)
        assert first.leads()
    assert api.holder == "a"


@pytest.mark.claim("K52")
async def test_a_released_lease_is_taken_at_once(
    api: FakeApi, candidate: Candidate, clock: Clock
) -> None:
    first, second = candidate("a"), candidate("b")
    await acquire(first)
    assert not await second._try(5)
    await first.release()
    assert not first.leads()
    before = clock.now
    await acquire(second)
    assert clock.now == before
    await first.release()
    assert api.holder == "b", "what is not held is not released"


async def test_of_two_that_try_at_once_one_leads(api: FakeApi, candidate: Candidate) -> None:
    api.lease = {"metadata": {"resourceVersion": "0"}, "spec": {}}
    first, second = candidate("a"), candidate("b")
    genuine, met = api.get, asyncio.Event()

    async def get(path: str) -> Any:
        found = await genuine(path)
        if first._observed is None and not met.is_set():
            met.set()
            assert await second._try(5)
        return found

    api.get = get  # type: ignore[method-assign]
    assert not await first._try(5)
    assert (first.leads(), second.leads()) == (False, True)


@pytest.mark.claim("K50")
@pytest.mark.parametrize(
    "error",
    [UnreachableError("reset"), ApiError(status=500, reason="", message="etcd")],
    ids=["unreachable", "500"],
)
async def test_a_leader_that_cannot_renew_gives_up_before_another_may_lead(
    api: FakeApi, candidate: Candidate, clock: Clock, error: Exception
) -> None:
    first = candidate("a")
    await acquire(first)
    acquired = clock.now
    api.error = error
    with pytest.raises(LeaseLostError, match="not renewed for 10 s"):
        await asyncio.wait_for(first.keep(), SECONDS)
    assert not first.leads()
    assert clock.now - acquired <= TERMS.deadline + 0.001


async def test_a_leader_whose_lease_another_has_gives_up_at_once(
    api: FakeApi, candidate: Candidate
) -> None:
    first = candidate("a")
    await acquire(first)
    assert api.lease is not None
    api.lease["spec"]["holderIdentity"] = "b"
    api.lease["metadata"]["resourceVersion"] = "99"
    with pytest.raises(LeaseLostError, match="held by 'b'"):
        await asyncio.wait_for(first.keep(), SECONDS)


async def test_a_renewal_whose_answer_was_lost_is_no_loss(
    api: FakeApi, candidate: Candidate
) -> None:
    first = candidate("a")
    await acquire(first)
    api.error, api.deaf = UnreachableError("reset"), True
    assert not await first._try(5)
    api.error = None
    assert await first._try(5)
    assert first.leads()


async def test_a_lease_that_was_deleted_is_made_again(api: FakeApi, candidate: Candidate) -> None:
    first = candidate("a")
    await acquire(first)
    api.lease = None
    assert await first._try(5)
    assert api.holder == "a"


async def test_a_request_that_hangs_is_given_up(
    api: FakeApi, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    first = candidate("a")

    async def hang(path: str) -> Any:
        await asyncio.Event().wait()

    api.get = hang  # type: ignore[method-assign]
    assert not await asyncio.wait_for(first._try(0.05), SECONDS)


def test_who_renews_keeps_the_time_of_the_taking() -> None:
    taken = held({}, identity="a", duration=15, now=NOW)
    renewed = held(taken, identity="a", duration=15, now=NOW.replace(minute=5))
    assert renewed["acquireTime"] == taken["acquireTime"] == "2026-01-02T03:04:05.000678Z"
    assert renewed["renewTime"] == "2026-01-02T03:05:05.000678Z"
    assert renewed["leaseTransitions"] == 0


@given(
    looks=st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1, max_size=30),
    duration=st.integers(1, 20),
)
def test_a_lease_is_free_exactly_when_it_did_not_change_for_its_duration(
    looks: list[tuple[float, bool]], duration: int
) -> None:
    now, renewals, changed_at = 0.0, 0, 0.0
    seen: Observed | None = None
    for pause, renewed in looks:
        now += pause
        if renewed or seen is None:
            renewals, changed_at = renewals + 1, now
        spec = {"holderIdentity": "a", "leaseDurationSeconds": duration, "renewTime": str(renewals)}
        seen = observe(seen, {"spec": spec}, now=now)
        assert seen.is_free(now) == (now - changed_at >= duration)
