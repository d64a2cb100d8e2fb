import asyncio

import pytest

from slurmlet.scheduler import backoff
from slurmlet.scheduler.queue import Place, SchedulingQueue, Waiting

SECONDS = 5


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 0.08)


async def take(queue: SchedulingQueue) -> Waiting:
    return await asyncio.wait_for(queue.take(), SECONDS)


async def nothing_to_take(queue: SchedulingQueue) -> bool:
    try:
        await asyncio.wait_for(queue.take(), 0.001)
    except TimeoutError:
        return True
    return False


def test_pods_rest_for_as_long_as_kube_schedulers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [backoff.backoff(n) for n in (1, 2, 3, 4, 5, 99999)] == [1, 2, 4, 8, 10, 10]


async def test_pods_come_in_the_order_of_their_arrival_and_once() -> None:
    queue = SchedulingQueue()
    for key in ("a/1", "a/2", "a/1", "a/3"):
        queue.add(key, "UnscheduledPodAdd")
    assert queue.pending("active") == 3
    assert [(await take(queue)).key for _ in range(3)] == ["a/1", "a/2", "a/3"]
    assert queue.pending("active") == 0
    assert await nothing_to_take(queue)


async def test_what_fits_nowhere_waits_for_an_event_and_rests_meanwhile() -> None:
    queue = SchedulingQueue()
    queue.add("a/1", "UnscheduledPodAdd")
    queue.refused(await take(queue))
    assert queue.pending("unschedulable") == 1
    await asyncio.sleep(0.05)
    assert await nothing_to_take(queue), "no event, no attempt"

    queue.wake("NodeAdd")
    assert queue.pending("active") == 1, "it has rested"
    queue.refused(await take(queue))
    queue.wake("NodeUpdate")
    assert queue.pending("backoff") == 1, "it has not"
    queue.wake("NodeUpdate")
    queue.add("a/1", "UnscheduledPodUpdate")
    assert queue.pending("backoff") == 1
    assert (await take(queue)).failures == 2


async def test_an_event_during_an_attempt_is_not_missed() -> None:
    queue = SchedulingQueue()
    queue.add("a/1", "UnscheduledPodAdd")
    queue.add("a/2", "UnscheduledPodAdd")
    first, second = await take(queue), await take(queue)
    queue.wake("NodeAdd")
    queue.refused(first)
    queue.refused(second)
    assert {(await take(queue)).key, (await take(queue)).key} == {"a/1", "a/2"}


async def test_a_change_of_the_pod_during_its_attempt_is_not_missed() -> None:
    queue = SchedulingQueue()
    queue.add("a/1", "UnscheduledPodAdd")
    tried = await take(queue)
    queue.add("a/1", "UnscheduledPodUpdate")
    assert await nothing_to_take(queue), "one attempt at a time"
    queue.refused(tried)
    assert (await take(queue)) is tried
    queue.refused(tried)
    assert queue.pending("unschedulable") == 1, "it is tried once for it"


async def test_a_failed_attempt_is_followed_by_another_after_a_rest() -> None:
    queue = SchedulingQueue()
    queue.add("a/1", "UnscheduledPodAdd")
    loop = asyncio.get_running_loop()
    tried = await take(queue)
    started = loop.time()
    queue.failed(tried)
    assert await take(queue) is tried
    assert loop.time() - started >= 0.02
    started = loop.time()
    queue.failed(tried, retry_after=0.1)
    assert await take(queue) is tried
    assert loop.time() - started >= 0.1


async def test_what_is_forgotten_leaves_nothing_behind() -> None:
    queue = SchedulingQueue()
    for key in ("active", "refused", "failed", "tried", "bound", "gated"):
        queue.gate(key, "UnscheduledPodAdd") if key == "gated" else queue.add(key, "x")
    for _ in range(5):
        waiting = await take(queue)
        if waiting.key == "refused":
            queue.refused(waiting)
        elif waiting.key == "failed":
            queue.failed(waiting)
        elif waiting.key == "bound":
            queue.bound(waiting)
        elif waiting.key == "tried":
            tried = waiting
        else:
            queue.failed(waiting)
    for key in ("active", "refused", "failed", "tried", "bound", "gated"):
        queue.forget(key)
    queue.refused(tried)
    queue.wake("NodeAdd")
    places: tuple[Place, ...] = ("active", "backoff", "unschedulable", "gated")
    assert [queue.pending(place) for place in places] == [0, 0, 0, 0]
    await asyncio.sleep(0.05)
    assert await nothing_to_take(queue)
    assert not queue._waiting
    assert not queue._tried


async def test_a_new_pod_of_the_same_name_is_tried_while_the_old_one_still_is() -> None:
    queue = SchedulingQueue()
    queue.add("a/1", "UnscheduledPodAdd")
    old = await take(queue)
    queue.forget("a/1")
    queue.add("a/1", "UnscheduledPodAdd")
    new = await take(queue)
    queue.failed(old)
    queue.refused(new)
    assert queue.pending("unschedulable") == 1
    assert queue.pending("backoff") == 0


async def test_what_was_bound_is_not_tried_again_until_it_is_forgotten() -> None:
    queue = SchedulingQueue()
    queue.add("a/1", "UnscheduledPodAdd")
    queue.bound(await take(queue))
    queue.add("a/1", "UnscheduledPodUpdate")
    queue.wake("NodeAdd")
    assert await nothing_to_take(queue)
    queue.forget("a/1")
    queue.add("a/1", "UnscheduledPodAdd")
    assert (await take(queue)).key == "a/1"


async def test_gates_hold_a_pod_until_they_are_gone() -> None:
    came: list[tuple[str, Place]] = []
    queue = SchedulingQueue(lambda event, place: came.append((event, place)))
    queue.gate("a/1", "UnscheduledPodAdd")
    queue.wake("NodeAdd")
    assert queue.pending("gated") == 1
    assert await nothing_to_take(queue)
    queue.add("a/1", "UnscheduledPodUpdate")
    assert (await take(queue)).key == "a/1"
    assert came == [("UnscheduledPodAdd", "gated"), ("UnscheduledPodUpdate", "active")]
