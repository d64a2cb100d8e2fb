"""Following jobs: changes arrive once, and a job is lost only when Slurm says so for long."""

import asyncio

import pytest
from tests.unit.kubelet.fakes import FakeJob, FakeSlurm

from slurmlet.kubelet.jobwatch import JobWatch, Pace
from slurmlet.kubelet.slurm.process import CommandError
from slurmlet.kubelet.slurm.query import Slurm


def watch_of(fake: FakeSlurm) -> tuple[JobWatch, list[int]]:
    watch = JobWatch(Slurm(fake.run), interval=10)
    changes: list[int] = []
    for number in fake.jobs:
        watch.track(number, lambda number=number: changes.append(number))  # type: ignore[misc]
    return watch, changes


def state_of(watch: JobWatch, number: int) -> str:
    job = watch.facts(number)
    return job.state if job else ""


async def test_a_change_is_told_once() -> None:
    fake = FakeSlurm(jobs={1: FakeJob(), 2: FakeJob()})
    watch, changes = watch_of(fake)
    await watch.poll()
    await watch.poll()
    assert sorted(changes) == [1, 2]
    fake.jobs[2].state = "RUNNING"
    await watch.poll()
    assert sorted(changes) == [1, 2, 2]
    assert state_of(watch, 2) == "RUNNING"


async def test_silence_keeps_what_is_known() -> None:
    fake = FakeSlurm(jobs={1: FakeJob(state="RUNNING")})
    watch, _ = watch_of(fake)
    await watch.poll()
    fake.silent = True
    await watch.poll()
    assert state_of(watch, 1) == "RUNNING"
    assert "no answer" in watch.problem
    fake.silent = False
    await watch.poll()
    assert watch.problem == ""


async def test_a_forgotten_job_ends_as_the_accounting_says() -> None:
    fake = FakeSlurm(jobs={1: FakeJob(state="RUNNING")})
    watch, _ = watch_of(fake)
    await watch.poll()
    fake.jobs[1] = FakeJob(state="FAILED", exit_code="3:0", forgotten=True)
    await watch.poll()
    job = watch.facts(1)
    assert job is not None
    assert (job.state, job.exit_code) == ("FAILED", 3)


async def test_the_accounting_is_asked_for_absent_jobs_only() -> None:
    fake = FakeSlurm(jobs={number: FakeJob(state="RUNNING") for number in range(1, 100)})
    watch, _ = watch_of(fake)
    await watch.poll()
    assert [argv[0] for argv in fake.calls] == ["squeue"]
    fake.jobs[7].forgotten = True
    await watch.poll()
    # Whether it may be hidden is asked once.
    assert [argv[0] for argv in fake.calls] == ["squeue", "squeue", "scontrol", "sacct"]
    assert fake.calls[-1][fake.calls[-1].index("-j") + 1] == "7"


async def test_the_accounting_lags_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """It still says RUNNING of a job that slurmctld has forgotten: that is not believed for ever,
    but for long."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    fake = FakeSlurm(jobs={1: FakeJob(state="RUNNING", forgotten=True)})
    watch, _ = watch_of(fake)
    await watch.poll()
    now[0] += 500
    await watch.poll()
    assert watch.facts(1) is None
    now[0] += 200
    await watch.poll()
    assert state_of(watch, 1) == "LOST"


async def test_fresh_facts_are_asked_for_now() -> None:
    fake = FakeSlurm(jobs={1: FakeJob(state="RUNNING")})
    watch = JobWatch(Slurm(fake.run), interval=300)
    running = asyncio.create_task(watch.run())
    job = await asyncio.wait_for(watch.fresh(1), 5)
    assert job is not None
    assert job.state == "RUNNING"
    running.cancel()


async def test_fresh_facts_of_an_unknown_job_and_of_a_silent_slurm() -> None:
    fake = FakeSlurm()
    watch = JobWatch(Slurm(fake.run), interval=300)
    asked = asyncio.create_task(watch.fresh(9))
    await asyncio.sleep(0)
    await watch.poll()
    assert await asked is None
    fake.silent = True
    asked = asyncio.create_task(watch.fresh(9))
    await asyncio.sleep(0)
    await watch.poll()
    with pytest.raises(CommandError):
        await asked


def test_some_questions_follow_each_other_at_once_and_then_one_comes_per_second() -> None:
    pace, now, times = Pace(), 100.0, []
    for _ in range(10):
        times.append(now)
        now += pace.pause(now=now, took=0.02)
    assert times == [100.0] * 5 + [101.0, 102.0, 103.0, 104.0, 105.0]
    assert pace.pause(now=now + 60, took=0.02) == 0


def test_slow_answers_are_asked_for_less_often() -> None:
    pace, now = Pace(), 0.0
    for _ in range(20):
        now += 3.0 + pace.pause(now=now, took=3.0)
    # At most 15 seconds apart, and 4 of them sooner.
    assert 20 * 15 - 4 <= now <= 20 * 15


async def test_a_hello_soon_after_a_question_is_judged_at_once() -> None:
    fake = FakeSlurm(jobs={1: FakeJob()})
    watch, _ = watch_of(fake)
    running = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(0.9):
            await watch.fresh(1)
            fake.jobs[1].state = "RUNNING"
            job = await watch.fresh(1)
    finally:
        running.cancel()
    assert job is not None
    assert job.state == "RUNNING"


@pytest.mark.parametrize("steps", range(5))
async def test_a_watch_that_is_told_something_while_it_is_stopped_stops(steps: int) -> None:
    watch, _ = watch_of(FakeSlurm())
    running = asyncio.create_task(watch.run())
    for _ in range(10):
        await asyncio.sleep(0)
    watch.poke()
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=5)
    assert done
