import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st

from slurmlet.common.ratelimit import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_at_once_and_what_follows_at_the_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=10, burst=3, clock=clock)
    assert [round(bucket._reserve(), 3) for _ in range(5)] == [0, 0, 0, 0.1, 0.2]
    clock.now += 1
    assert [round(bucket._reserve(), 3) for _ in range(4)] == [0, 0, 0, 0.1]


@given(
    pauses=st.lists(st.floats(0, 0.5), min_size=1, max_size=50),
    rate=st.integers(1, 100),
    burst=st.integers(1, 20),
)
def test_no_more_pass_than_allowed(pauses: list[float], rate: int, burst: int) -> None:
    clock = Clock()
    bucket = TokenBucket(rate=rate, burst=burst, clock=clock)
    passed = []
    for pause in pauses:
        clock.now += pause
        passed.append(clock.now + bucket._reserve())
    assert passed == sorted(passed), "in the order in which they came"
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - start) * rate + 1e-6


def test_nobody_passes_while_it_is_held() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=10, burst=3, clock=clock)
    bucket.hold(5)
    bucket.hold(2)
    assert bucket._reserve() == 5
    clock.now += 6
    assert bucket._reserve() == 0


async def test_who_has_to_wait_waits() -> None:
    bucket = TokenBucket(rate=100, burst=1)
    started = time.monotonic()
    await asyncio.gather(*(bucket.acquire() for _ in range(6)))
    assert time.monotonic() - started >= 0.045
