import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from slurmlet.common import workqueue as module
from slurmlet.common.workqueue import Work, WorkQueue


@contextlib.asynccontextmanager
async def running(work: Work) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue(work, workers=4)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()


async def test_many_events_of_a_key_become_one_more_run() -> None:
    runs = 0
    inside = asyncio.Event()
    release = asyncio.Event()
    twice = asyncio.Event()

    async def work(_: str) -> None:
        nonlocal runs
        runs += 1
        inside.set()
        if runs == 2:
            twice.set()
        await release.wait()

    async with running(work) as queue:
        queue.add("alice/web")
        await inside.wait()
        for _ in range(100):
            queue.add("alice/web")
        assert runs == 1, "a key never runs twice at the same time"
        release.set()
        await asyncio.wait_for(twice.wait(), 5)
    assert runs == 2


async def test_a_failing_key_is_tried_again_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.001, 0.01))
    tries = 0
    other = asyncio.Event()
    healed = asyncio.Event()

    async def work(key: str) -> None:
        nonlocal tries
        if key == "other":
            other.set()
            return
        tries += 1
        if tries < 3:
            raise RuntimeError("planted")
        healed.set()

    async with running(work) as queue:
        queue.add("bad")
        queue.add("other")
        await asyncio.wait_for(other.wait(), 5)
        await asyncio.wait_for(healed.wait(), 5)


async def test_a_returned_pause_asks_for_another_run() -> None:
    runs = 0
    third = asyncio.Event()

    async def work(_: str) -> float | None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()
            return None
        return 0.001

    async with running(work) as queue:
        queue.add("alice/web")
        await asyncio.wait_for(third.wait(), 5)
