"""A pod's life from its job to its end, and its deletion."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.kubelet.conftest import FakeSession, World
from tests.unit.kubelet.fakes import UID, FakeJob, pod

from slurmlet.common.kube import ApiError
from slurmlet.contracts.podproto import (
    Ack,
    ContainerReport,
    ContainerState,
    Status,
    Stop,
    encode_message,
)
from slurmlet.kubelet.orphans import entry_of
from slurmlet.kubelet.pending import CHANGE_BURST, CHANGE_SECONDS
from slurmlet.kubelet.podstatus import timestamp
from slurmlet.kubelet.records import Entry
from slurmlet.kubelet.slurm.process import CommandError

Forward = Callable[[float], None]


def report(kind: str, *, phase: str, seq: int = 1, code: int = 0) -> Status:
    final = kind == "terminated"
    state = ContainerState(kind=kind, exit_code=code if final else None)
    container = ContainerReport(name="main", init=False, state=state, ready=kind == "running")
    return Status(seq=seq, phase=phase, containers=(container,), final=final)


async def running(world: World, **changes: Any) -> FakeSession:
    """A pod whose job runs and whose supervisor is connected."""
    world.add(pod(**changes))
    await world.sync(times=2)
    world.slurm.jobs[101].state, world.slurm.jobs[101].node = "RUNNING", "c1"
    session = FakeSession()
    record = world.record()
    record.session, record.report = session, report("running", phase="Running")
    record.ip = record.host_ip = "10.1"
    await world.watch.poll()
    await world.sync()
    assert world.live()["status"]["phase"] == "Running"
    return session


def delete(world: World, *, grace: int = 30) -> None:
    world.live()["metadata"]["deletionTimestamp"] = timestamp(time.time() + grace)
    world.live()["metadata"]["deletionGracePeriodSeconds"] = grace


async def test_the_final_status_is_acknowledged_after_it_is_stored(world: World) -> None:
    session = await running(world, restartPolicy="Never")
    world.record().report = report("terminated", phase="Failed", seq=2, code=7)
    world.api.refuse = "/status"
    with pytest.raises(ApiError):
        await world.sync()
    assert session.sent == []
    world.api.refuse = "\0"
    await world.sync()
    assert session.sent == [Ack(seq=2)]
    status = world.live()["status"]
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7


async def test_a_finished_pod_s_job_is_seen_out(world: World) -> None:
    await running(world, restartPolicy="Never")
    world.record().report = report("terminated", phase="Succeeded", seq=2)
    assert await world.sync() is not None
    assert world.journal.entries() != []
    world.slurm.jobs[101].state = "COMPLETED"
    await world.sync(times=2)
    assert await world.sync() is None
    assert world.annotation("job-state") == "COMPLETED"
    assert world.journal.entries() == []
    assert world.broker.cancelled() == []


async def test_a_job_that_lingers_is_cancelled(world: World, clock: Forward) -> None:
    await running(world, restartPolicy="Never")
    world.record().report = report("terminated", phase="Succeeded", seq=2)
    await world.sync(times=2)
    clock(120)
    await world.sync()
    assert world.broker.cancelled() == [101]


async def test_a_lost_node_fails_the_pod(world: World, clock: Forward) -> None:
    await running(world)
    world.record().session = None
    world.slurm.jobs[101].state = "NODE_FAIL"
    await world.sync()
    assert await world.sync() is not None
    clock(20)
    await world.sync()
    status = world.live()["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "NodeLost")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


@pytest.mark.claim("Q6")
async def test_a_reason_that_no_waiting_helps_is_told_once(world: World) -> None:
    """Not with every answer of Slurm, not by the next agent, and again for another reason."""
    world.add(pod())
    await world.sync(times=2)
    job = world.slurm.jobs[101]
    assert "SlurmPending" not in world.events.reasons()
    job.reason = "QOSMaxCpuPerJobLimit"
    await world.watch.poll()
    await world.sync()
    _, reason, message = world.events.emitted[-1]
    assert reason == "SlurmPending"
    assert message == (
        "Slurm job 101 will not start as it is: QOSMaxCpuPerJobLimit: it asks for more CPUs than"
        " its QOS allows a job; ask for less, or for another QOS (annotation slurmlet.io/qos)"
    )
    for started in (1, 2, 3):
        job.started += started
        await world.watch.poll()
        await world.sync()
    world.restart()
    await world.sync(times=3)
    for reason in ("Priority", "QOSMaxCpuPerJobLimit"):
        job.reason = reason
        await world.watch.poll()
        await world.sync()
    assert world.events.reasons().count("SlurmPending") == 1
    job.reason = "JobHeldUser"
    await world.watch.poll()
    await world.sync()
    assert world.events.reasons().count("SlurmPending") == 2


@pytest.mark.claim("Q5", "Q6")
async def test_a_job_whose_reservation_was_deleted_is_told(world: World) -> None:
    """Slurm holds it by a flag that covers that it is pending."""
    world.add(pod())
    await world.sync(times=2)
    job = world.slurm.jobs[101]
    job.state, job.reason = "RESV_DEL_HOLD", "Reservation course was deleted"
    await world.watch.poll()
    await world.sync()
    _, _, message = world.events.emitted[-1]
    assert "will not start as it is: Reservation course was deleted" in message
    waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "SlurmHeld"


@pytest.mark.claim("Q7")
async def test_reasons_that_take_turns_write_seldom(world: World, clock: Forward) -> None:
    """Slurm's main scheduler and its backfill may each have a reason of their own."""

    def said() -> str:
        waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
        return str(waiting["message"])

    world.add(pod())
    await world.sync(times=2)
    job = world.slurm.jobs[101]
    before = len(world.api.log)
    for number in range(60):
        job.reason = ("Resources", "AssocMaxJobsLimit")[number % 2]
        await world.watch.poll()
        pause = await world.sync()
        clock(30)
    writes = [method for method, *_ in world.api.log[before:] if method == "PATCH"]
    assert CHANGE_BURST <= len(writes) <= CHANGE_BURST + 60 * 30 / CHANGE_SECONDS
    job.reason = "Licenses"
    await world.watch.poll()
    pause = await world.sync()
    if pause:
        assert "Licenses" not in said()
        assert pause <= CHANGE_SECONDS
        clock(pause)
        await world.sync()
    assert "waits: Licenses: " in said()


@pytest.mark.claim("Q7")
async def test_what_is_more_than_words_is_written_at_once(world: World) -> None:
    world.add(pod())
    await world.sync(times=2)
    job = world.slurm.jobs[101]
    for number in range(2 * CHANGE_BURST):
        job.reason = ("Resources", "AssocMaxJobsLimit")[number % 2]
        await world.watch.poll()
        await world.sync()
    job.state, job.node = "CONFIGURING", "c1"
    await world.watch.poll()
    await world.sync()
    waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "NodeBooting"


@pytest.mark.claim("Q7")
async def test_a_pod_is_looked_at_when_its_expected_start_has_passed(world: World) -> None:
    world.add(pod())
    await world.sync(times=2)
    world.slurm.jobs[101].started = int(time.time()) + 600
    await world.watch.poll()
    pause = await world.sync()
    assert pause is not None
    assert 600 <= pause <= 662
    waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
    assert "Slurm expects it to start at" in waiting["message"]


async def test_a_requeued_job_is_not_waited_for(world: World) -> None:
    await running(world)
    world.record().session = world.record().report = None
    world.slurm.jobs[101].state, world.slurm.jobs[101].node = "PENDING", ""
    await world.watch.poll()
    assert await world.sync() is not None
    status = world.live()["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "SlurmRequeued")
    assert world.broker.cancelled() == []
    # The journal keeps the job until Slurm says that it has ended.
    assert world.journal.entries() != []
    await world.sync()
    assert world.broker.cancelled() == [101]
    await world.sync(times=2)
    assert world.journal.entries() == []
    assert world.live()["status"]["reason"] == "SlurmRequeued"


async def test_the_exit_record_speaks_for_a_supervisor_that_was_not_heard(world: World) -> None:
    await running(world, restartPolicy="Never")
    world.record().session = None
    final = report("terminated", phase="Failed", seq=9, code=3)
    world.broker.files[f"{UID}/exit.json"] = encode_message(final).encode()
    world.slurm.jobs[101].state = "FAILED"
    await world.sync(times=2)
    state = world.live()["status"]["containerStatuses"][0]["state"]
    assert state["terminated"]["exitCode"] == 3


async def test_success_is_not_said_before_details_had_their_time(
    world: World, clock: Forward
) -> None:
    await running(world, restartPolicy="Never")
    world.record().session = None
    world.slurm.jobs[101].state = "COMPLETED"
    await world.sync(times=2)
    clock(60)
    await world.sync()
    assert world.live()["status"]["phase"] == "Running"
    clock(61)
    await world.sync()
    assert world.live()["status"]["phase"] == "Succeeded"


async def test_a_failed_job_s_own_code_is_the_last_resort(world: World, clock: Forward) -> None:
    await running(world, restartPolicy="Never")
    world.record().session = None
    world.slurm.jobs[101].state, world.slurm.jobs[101].exit_code = "FAILED", "5:0"
    await world.sync(times=2)
    clock(20)
    await world.sync()
    state = world.live()["status"]["containerStatuses"][0]["state"]
    assert state["terminated"]["exitCode"] == 5


async def test_after_a_restart_the_job_is_followed_again(world: World) -> None:
    await running(world)
    before = json.dumps(world.live(), sort_keys=True)
    world.restart()
    await world.sync(times=3)
    assert json.dumps(world.live(), sort_keys=True) == before
    assert len(world.broker.submitted()) == 1
    assert world.watch.tracks(101)


async def test_a_silent_slurm_changes_no_pod(world: World) -> None:
    await running(world)
    before = json.dumps(world.live(), sort_keys=True)
    world.slurm.silent = True
    world.slurm.jobs.clear()
    await world.sync(times=3)
    assert json.dumps(world.live(), sort_keys=True) == before


async def test_deletion_stops_and_waits_for_slurm(world: World) -> None:
    session = await running(world)
    delete(world)
    await world.sync(times=2)
    (stop,) = session.sent
    assert isinstance(stop, Stop)
    assert 28 < stop.grace <= 30
    assert world.exists()

    world.record().report = report("terminated", phase="Succeeded", seq=2)
    await world.sync()
    assert Ack(seq=2) in session.sent
    assert world.exists(), "the job has not ended yet"

    world.slurm.jobs[101].state = "COMPLETED"
    await world.sync(times=2)
    assert not world.exists()
    assert world.broker.cancelled() == []
    methods = [(method, path) for method, path, _ in world.api.log if "pods/web" in path]
    assert methods[-1][0] == "DELETE"
    assert world.journal.entries() == []


async def test_terminal_states_are_written_before_the_object_goes(world: World) -> None:
    await running(world)
    world.record().session = None
    delete(world)
    world.slurm.jobs[101].state = "CANCELLED"
    await world.watch.poll()
    patches = len(world.api.log)
    await world.sync()
    assert not world.exists()
    methods = [(method, body) for method, path, body in world.api.log[patches:] if "web" in path]
    assert [method for method, _ in methods] == ["PATCH", "DELETE"]
    status = methods[0][1]["status"]
    assert status["phase"] == "Failed"
    assert "terminated" in status["containerStatuses"][0]["state"]
    assert methods[1][1] == 0, "grace period of the deletion"


async def test_a_pod_that_ended_before_a_restart_needs_no_word_of_slurm(world: World) -> None:
    await running(world, restartPolicy="Never")
    world.record().report = report("terminated", phase="Succeeded", seq=2)
    world.slurm.jobs[101].state = "COMPLETED"
    await world.sync(times=3)
    world.restart()
    world.slurm.silent = True
    delete(world)
    await world.sync()
    assert not world.exists()
    assert world.journal.entries() == []


async def test_a_queued_pod_is_cancelled_at_once(world: World) -> None:
    world.add(pod())
    await world.sync(times=2)
    delete(world)
    await world.sync()
    assert world.broker.cancelled() == [101]
    await world.sync(times=2)
    assert not world.exists()


async def test_scancel_when_nobody_answers(world: World, clock: Forward) -> None:
    await running(world)
    world.record().session = None
    delete(world)
    await world.sync()
    assert world.broker.cancelled() == []
    clock(6)
    await world.sync()
    assert world.broker.cancelled() == [101]
    await world.sync()
    assert world.broker.cancelled() == [101]


async def test_a_suspended_pod_is_cancelled_at_once(world: World) -> None:
    """Its supervisor is connected and hears nothing."""
    session = await running(world)
    world.slurm.jobs[101].state = "SUSPENDED"
    await world.sync()
    delete(world)
    await world.sync()
    assert world.broker.cancelled() == [101]
    assert session.sent == []


async def test_scancel_after_grace_and_slack(world: World, clock: Forward) -> None:
    session = await running(world)
    delete(world, grace=-20)
    clock(0)
    await world.sync()
    assert isinstance(session.sent[0], Stop)
    assert session.sent[0].grace == 0
    clock(6)
    await world.sync()
    assert world.broker.cancelled() == [101]


async def test_a_shorter_grace_is_told(world: World) -> None:
    session = await running(world)
    delete(world, grace=30)
    await world.sync()
    delete(world, grace=3)
    await world.sync()
    first, second = session.sent
    assert isinstance(first, Stop)
    assert isinstance(second, Stop)
    assert second.grace < 4 < first.grace


async def test_a_pod_that_never_had_a_job_goes_at_once(world: World) -> None:
    world.add(pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}))
    await world.sync()
    assert not world.exists()
    assert world.broker.requests == []


async def test_a_job_nobody_wrote_down_is_found_before_deletion(world: World) -> None:
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    world.restart()
    delete(world)
    await world.sync()
    assert world.exists()
    await world.sync(times=3)
    assert world.broker.cancelled() == [101]
    assert not world.exists()


async def test_unknown_is_not_gone(world: World) -> None:
    """A pod is not deleted while Slurm cannot say whether it has a job."""
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    world.restart()
    delete(world)
    world.slurm.silent = True
    with pytest.raises(CommandError):
        await world.sync()
    assert world.exists()


async def test_an_orphan_is_cancelled_after_a_settle_time(world: World, clock: Forward) -> None:
    await running(world)
    (entry,) = world.journal.entries()
    del world.api.objects["/api/v1/namespaces/alice/pods/web"]
    world.orphans.add(entry, expected=True)
    assert await world.orphans.sync(UID) is not None
    assert world.broker.cancelled() == []
    clock(11)
    await world.orphans.sync(UID)
    assert world.broker.cancelled() == [101]
    await world.watch.poll()
    assert await world.orphans.sync(UID) is None
    assert world.journal.entries() == []


async def test_a_pod_that_is_there_after_all_keeps_its_job(world: World, clock: Forward) -> None:
    await running(world)
    (entry,) = world.journal.entries()
    world.orphans.add(entry, expected=True)
    clock(11)
    assert await world.orphans.sync(UID) is None
    assert world.broker.cancelled() == []


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        (f"slurmlet:lab:alice/web:{UID}:1", True),
        (f"slurmlet:other:alice/web:{UID}:1", False),
        (f"slurmlet:lab:alice/web:{UID.replace('1', '2')}:1", False),
        (f"slurmlet:lab:alice/../bob:{UID}:1", False),
        (f"slurmlet:lab:alice?x=/web:{UID}:1", False),
        (f"slurmlet:lab:alice:{UID}:1", False),
        ("", False),
    ],
)
def test_a_job_s_comment_names_its_pod(comment: str, found: bool) -> None:
    entry = entry_of(comment, cluster="lab", uid=UID, job_id=101)
    wanted = Entry(uid=UID, namespace="alice", name="web", job_id=101)
    assert entry == (wanted if found else None)


async def test_held_orphans_wait(world: World, clock: Forward) -> None:
    await running(world)
    (entry,) = world.journal.entries()
    del world.api.objects["/api/v1/namespaces/alice/pods/web"]
    world.orphans.add(entry, expected=True)
    clock(11)
    assert world.holding.node_was_away(time.monotonic(), jobs=1)
    await world.orphans.sync(UID)
    assert world.broker.cancelled() == []
    clock(601)
    await world.orphans.sync(UID)
    assert world.broker.cancelled() == [101]


async def test_a_held_orphan_whose_job_ended_is_forgotten(world: World, clock: Forward) -> None:
    """Else the next agent would find it in the journal, and count it as vanished again."""
    await running(world)
    (entry,) = world.journal.entries()
    del world.api.objects["/api/v1/namespaces/alice/pods/web"]
    world.orphans.add(entry, expected=True)
    world.holding.node_was_away(time.monotonic(), jobs=1)
    clock(11)
    await world.orphans.sync(UID)
    world.slurm.jobs[101].state = "CANCELLED"
    await world.watch.poll()
    assert await world.orphans.sync(UID) is None
    assert world.journal.entries() == []
    assert world.broker.cancelled() == []


@pytest.mark.parametrize(("state", "lost"), [("RUNNING", 1), ("COMPLETED", 0)])
async def test_only_pods_with_a_live_job_are_lost(
    world: World, clock: Forward, state: str, lost: int
) -> None:
    """An agent that was away while many pods ended and were deleted held the jobs of others."""
    await running(world)
    (entry,) = world.journal.entries()
    world.slurm.jobs[101].state = state
    world.restart()
    world.orphans.add(entry, expected=False)
    assert await world.orphans.sync(UID) is not None
    await world.watch.poll()
    clock(6)
    again = await world.orphans.sync(UID)
    assert len(world.lost) == lost
    assert (again is None) == (lost == 0)
    assert len(world.journal.entries()) == lost
    assert world.broker.cancelled() == []


async def test_one_bad_pod_harms_no_other(world: World) -> None:
    world.add(pod("bad", uid=UID.replace("1", "9"), containers=[{}]))
    world.add(pod())
    with pytest.raises(KeyError):
        await world.sync("alice/bad")
    await world.sync("alice/web", times=2)
    assert world.annotation("job-id") == "101"


async def test_a_job_id_of_another_user_is_only_followed(world: World) -> None:
    """Annotations are guarded; a wrong one must still not make us cancel somebody's job as root:
    the broker cancels as the namespace's user, and Slurm refuses."""
    world.slurm.jobs[7] = replace(FakeJob(), uid=1002, state="RUNNING", node="c1")
    world.add(pod(metadata={"annotations": {"status.slurmlet.io/job-id": "7"}}))
    await world.sync(times=2)
    assert world.broker.submitted() == []
