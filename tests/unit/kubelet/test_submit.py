"""From a bound pod to its one job, also through failures in between."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.kubelet.conftest import KEY, World
from tests.unit.kubelet.fakes import UID, FakeJob, inventory_of, pod

from slurmlet.common.kube import ApiError, UnreachableError
from slurmlet.contracts.brokerproto import Answer, Request
from slurmlet.contracts.podproto import token
from slurmlet.kubelet.brokerclient import BrokerError
from slurmlet.kubelet.slurm.process import CommandError
from slurmlet.kubelet.submit import SETTLE_SECONDS, UNKNOWN_SECONDS

Forward = Callable[[float], None]


async def test_a_pod_becomes_one_job(world: World) -> None:
    world.add(pod())
    await world.sync(times=3)
    (request,) = world.broker.submitted()
    assert (request.namespace, request.pod, request.uid) == ("alice", "web", UID)
    assert request.agent == "10.77.0.1:10260"
    assert request.token == token(key=KEY, uid=UID, attempt=1, user="alice")
    assert world.annotation("job-id") == "101"
    assert world.annotation("attempt") == "1"
    waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "SlurmPending"
    assert waiting["message"].startswith("Slurm job 101 waits: Priority: ")


async def test_the_attempt_is_written_before_sbatch(world: World) -> None:
    world.add(pod())
    world.api.refuse = "/status"
    with pytest.raises(Exception, match="refused by the test"):
        await world.sync()
    assert world.broker.submitted() == []


async def test_no_api_server_no_sbatch(world: World) -> None:
    world.add(pod())
    await world.sync(times=0)
    world.store["alice/web"] = world.live()
    world.api.down = True
    with pytest.raises(UnreachableError):
        await world.controller.sync("alice/web")
    assert world.broker.submitted() == []


async def test_a_pod_of_another_uid_is_not_submitted(world: World) -> None:
    world.add(pod(uid=UID.replace("1", "2")))
    world.store["alice/web"] = pod()
    with pytest.raises(ApiError, match="409"):
        await world.controller.sync("alice/web")
    assert world.broker.submitted() == []


async def test_a_pod_that_is_being_deleted_is_not_submitted(world: World) -> None:
    world.add(pod(metadata={"deletionTimestamp": "2026-01-01T00:01:00Z"}))
    world.store["alice/web"] = pod()
    await world.controller.sync("alice/web")
    assert world.broker.submitted() == []


async def test_a_job_whose_answer_was_lost_is_found(world: World, clock: Forward) -> None:
    world.add(pod())
    world.broker.loses_answers = True
    assert await world.sync() is not None
    assert world.annotation("job-id") is None
    waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "SubmitBackOff"
    clock(60)
    await world.sync(times=2)
    assert len(world.broker.submitted()) == 1
    assert world.annotation("job-id") == "101"


async def test_an_agent_that_died_during_sbatch_waits_for_it(world: World, clock: Forward) -> None:
    """The broker goes on without the agent: the job may come to be a moment later."""
    world.add(pod(metadata={"annotations": {"status.slurmlet.io/attempt": "1"}}))
    pause = await world.sync()
    assert pause == pytest.approx(SETTLE_SECONDS)
    assert world.broker.submitted() == []
    world.slurm.jobs[101] = FakeJob(
        name=f"{UID[:8]}/alice/web", comment=f"slurmlet:lab:alice/web:{UID}:1"
    )
    clock(SETTLE_SECONDS + 1)
    await world.sync(times=2)
    assert world.broker.submitted() == []
    assert world.annotation("job-id") == "101"


async def test_a_job_in_a_hidden_partition_is_found(world: World, clock: Forward) -> None:
    """Hidden=YES or AllowGroups in slurm.conf: the agent is in no group of users."""
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    world.slurm.jobs[101].hidden = True
    clock(60)
    await world.sync(times=2)
    assert len(world.broker.submitted()) == 1
    assert world.annotation("job-id") == "101"


async def test_an_agent_that_died_before_sbatch_submits(world: World, clock: Forward) -> None:
    world.add(pod(metadata={"annotations": {"status.slurmlet.io/attempt": "1"}}))
    await world.sync()
    clock(SETTLE_SECONDS + 1)
    await world.sync(times=2)
    (request,) = world.broker.submitted()
    assert request.attempt == 2


async def test_of_two_jobs_the_one_that_runs_is_found(world: World) -> None:
    """It may have its plan: the other is the duplicate, whichever is older."""
    world.add(pod(metadata={"annotations": {"status.slurmlet.io/attempt": "2"}}))
    for number, attempt in ((101, 1), (102, 2)):
        world.slurm.jobs[number] = FakeJob(
            name=f"{UID[:8]}/alice/web", comment=f"slurmlet:lab:alice/web:{UID}:{attempt}"
        )
    world.slurm.jobs[101].state, world.slurm.jobs[101].node = "RUNNING", "c1"
    await world.sync(times=2)
    assert world.annotation("job-id") == "101"
    assert world.broker.cancelled() == [102]


async def test_a_pod_that_vanished_during_sbatch_leaves_an_orphan(world: World) -> None:
    """kubectl delete --force takes the object away at once; its job may wait for hours."""
    world.add(pod())
    ask = world.broker.ask

    async def vanish(request: Request) -> tuple[Answer, bytes]:
        answer = await ask(request)
        del world.api.objects["/api/v1/namespaces/alice/pods/web"]
        world.records.drop(UID)
        return answer

    world.broker.ask = vanish  # type: ignore[method-assign]
    await world.sync()
    (entry,) = world.orphaned
    assert (entry.uid, entry.job_id) == (UID, 101)
    assert world.journal.entries() == [entry]


async def test_an_agent_that_died_after_sbatch_finds_the_job(world: World) -> None:
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    world.restart()
    await world.sync(times=2)
    assert len(world.broker.submitted()) == 1
    assert world.annotation("job-id") == "101"


@pytest.mark.parametrize("count", ["9999999999", "9" * 5000, "-1", "x"])
async def test_a_forged_count_of_attempts_harms_nobody(
    world: World, clock: Forward, count: str
) -> None:
    """Annotations can be written by the pod's author."""
    world.add(pod(metadata={"annotations": {"status.slurmlet.io/attempt": count}}))
    async with asyncio.timeout(10):
        await world.sync()
        clock(SETTLE_SECONDS + 1)
        await world.sync(times=2)
    assert len(world.broker.submitted()) == 1


async def test_a_job_that_ended_meanwhile_is_found_too(world: World) -> None:
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    world.slurm.jobs[101].state, world.slurm.jobs[101].node = "FAILED", "c1"
    world.slurm.jobs[101].forgotten = True
    world.restart()
    await world.sync(times=2)
    assert len(world.broker.submitted()) == 1
    assert world.record().job_id == 101


async def test_without_slurm_s_word_nothing_is_submitted_again(
    world: World, clock: Forward
) -> None:
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    clock(60)
    world.slurm.silent = True
    with pytest.raises(CommandError):
        await world.sync()
    assert len(world.broker.submitted()) == 1


@pytest.mark.claim("Q8")
@pytest.mark.parametrize(
    "said",
    [
        "Unable to contact slurm controller (connect failure)",
        "sbatch did not answer in time",
        "Zero Bytes were transmitted or received",
    ],
)
async def test_a_pod_whose_submission_slurm_does_not_answer_says_so(
    world: World, said: str
) -> None:
    world.add(pod())
    world.broker.answers = [Answer(error=said, retry=True)]
    assert await world.sync() is not None
    waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
    told = f"Slurm does not answer; the pod is submitted when it does: {said}"
    assert waiting == {"reason": "SubmitBackOff", "message": told}
    assert world.events.emitted == [("web", "SubmitBackOff", told)]


@pytest.mark.claim("Q8")
async def test_a_pod_that_slurm_is_asked_about_in_vain_says_so(
    world: World, clock: Forward
) -> None:
    """It may have a job already, and nobody can tell."""
    world.add(pod(metadata={"annotations": {"status.slurmlet.io/attempt": "1"}}))
    world.slurm.silent = True
    with pytest.raises(CommandError):
        await world.sync()
    waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "SubmitBackOff"
    assert waiting["message"].startswith("Slurm does not answer; the pod is submitted when it does")
    written = len(world.api.log)
    with pytest.raises(CommandError):
        await world.sync()
    assert [method for method, *_ in world.api.log[written:]] == ["GET"]
    world.slurm.silent = False
    await world.sync()
    clock(SETTLE_SECONDS + 1)
    await world.sync(times=2)
    waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "SlurmPending"


async def test_what_is_no_silence_of_slurm_is_told_as_it_is(world: World) -> None:
    world.add(pod())
    world.broker.answers = [Answer(error="no space is left in /home/alice", retry=True)]
    await world.sync()
    waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["message"] == "no space is left in /home/alice"


async def test_jobs_of_other_users_and_forged_comments_are_not_taken(
    world: World, clock: Forward
) -> None:
    world.add(pod())
    world.broker.answers = [BrokerError("no answer")]
    await world.sync()
    name = f"{UID[:8]}/alice/web"
    comment = f"slurmlet:lab:alice/web:{UID}:1"
    world.slurm.jobs[50] = FakeJob(name=name, comment=comment, uid=1002)
    world.slurm.jobs[51] = FakeJob(name=name, comment=f"{comment}\nx", uid=1001)
    clock(60)
    await world.sync()
    clock(SETTLE_SECONDS + 1)
    await world.sync(times=2)
    assert len(world.broker.submitted()) == 2
    assert world.annotation("job-id") == "52"


async def test_what_slurm_did_late_is_found_by_a_second_look(world: World, clock: Forward) -> None:
    """A slurmctld that was frozen answers squeue and then carries out the sbatch before it."""
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    late = world.slurm.jobs.pop(101)
    clock(60)
    await world.sync(times=2)
    assert len(world.broker.submitted()) == 1
    world.slurm.jobs[101] = late
    clock(SETTLE_SECONDS + 1)
    await world.sync(times=2)
    assert len(world.broker.submitted()) == 1
    assert world.annotation("job-id") == "101"


async def test_a_job_that_slurm_refused_is_not_taken(world: World, clock: Forward) -> None:
    """Slurm keeps refused jobs as FAILED without a node; they never were the pod's."""
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    world.slurm.jobs[101].state = "FAILED"
    clock(60)
    await world.sync()
    clock(SETTLE_SECONDS + 1)
    await world.sync(times=2)
    assert [request.attempt for request in world.broker.submitted()] == [1, 2]
    assert world.annotation("job-id") == "102"


async def test_duplicates_are_cancelled(world: World, clock: Forward) -> None:
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    copy = world.slurm.jobs[101]
    world.slurm.jobs[102] = FakeJob(name=copy.name, comment=copy.comment)
    clock(60)
    await world.sync(times=2)
    assert world.annotation("job-id") == "101"
    assert world.broker.cancelled() == [102]


async def test_a_refused_pod_is_tried_again_ever_more_rarely(world: World, clock: Forward) -> None:
    world.add(pod())
    refusal = Answer(error="Invalid account or account/partition combination specified")
    pauses = []
    for _ in range(8):
        world.broker.answers = [refusal]
        pause = await world.sync()
        assert pause is not None
        pauses.append(pause)
        clock(pause + 1)
    assert 9 <= pauses[0] <= 11
    assert 270 <= pauses[-1] <= 330
    status = world.live()["status"]
    assert status["phase"] == "Pending"
    waiting = status["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "SlurmRejected"
    assert "Invalid account" in waiting["message"]


async def test_a_refused_pod_without_restarts_fails(world: World) -> None:
    world.add(pod(restartPolicy="Never"))
    world.broker.answers = [Answer(error="Invalid partition name specified")]
    await world.sync(times=3)
    status = world.live()["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "SlurmRejected")
    assert len(world.broker.submitted()) == 1


async def test_unsupported_pods_cost_slurm_nothing(world: World) -> None:
    world.add(pod(volumes=[{"name": "x", "hostPath": {"path": "/"}}], hostPID=True))
    await world.sync()
    assert world.broker.requests == []
    assert world.slurm.calls == []
    ((_, reason, message),) = world.events.emitted
    assert reason == "SlurmRejected"
    assert "hostPath" in message
    assert "hostPID" in message


async def test_a_missing_config_map_is_waited_for(world: World, clock: Forward) -> None:
    world.add(pod(volumes=[{"name": "c", "configMap": {"name": "later"}}]))
    pause = await world.sync()
    assert pause is not None
    assert world.broker.submitted() == []
    assert world.events.reasons() == ["FailedMount"]
    world.api.add(
        {"kind": "ConfigMap", "metadata": {"namespace": "alice", "name": "later"}, "data": {}}
    )
    clock(pause + 1)
    await world.sync()
    assert len(world.broker.submitted()) == 1


async def test_an_identity_map_that_cannot_be_read_refuses_nobody(
    world: World, clock: Forward
) -> None:
    world.add(pod(restartPolicy="Never"))
    good = world.identity.read_text()
    world.identity.write_text("not toml at all")
    pause = await world.sync()
    assert pause is not None
    assert world.live()["status"]["phase"] == "Pending"
    assert world.events.reasons() == ["SubmitBackOff"]
    world.identity.write_text(good)
    clock(pause + 1)
    await world.sync()
    assert len(world.broker.submitted()) == 1


async def test_a_pod_is_not_let_go_while_nobody_knows_whose_its_job_would_be(
    world: World,
) -> None:
    """sbatch may have worked before the agent died; the map that says as whom is broken now."""
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    world.restart()
    world.identity.write_text("not toml at all")
    world.live()["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    with pytest.raises(CommandError, match="the identity map cannot be used"):
        await world.sync()
    assert world.live()


@pytest.mark.claim("V8")
async def test_a_cordoned_node_submits_nothing_and_goes_on_afterwards(world: World) -> None:
    world.add(pod())
    world.cordoned = True
    await world.sync(times=3)
    assert world.broker.submitted() == []
    waiting = world.live()["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "NodeCordoned"
    assert "kubectl uncordon slurm" in waiting["message"]
    assert world.events.reasons() == ["NodeCordoned"]
    world.cordoned = False
    await world.sync()
    assert len(world.broker.submitted()) == 1


@pytest.mark.claim("V8")
async def test_a_cordon_does_not_touch_what_runs(world: World) -> None:
    world.add(pod())
    await world.sync()
    world.cordoned = True
    await world.sync(times=3)
    assert world.broker.cancelled() == []
    assert world.annotation("job-id") == "101"


async def test_a_cordoned_node_adopts_the_job_of_an_earlier_agent(world: World) -> None:
    world.add(pod())
    world.broker.loses_answers = True
    await world.sync()
    world.restart()
    world.cordoned = True
    await world.sync(times=2)
    assert world.annotation("job-id") or world.record().job_id


async def test_before_the_node_is_seen_nothing_is_submitted(world: World) -> None:
    world.add(pod())
    world.cordoned = None
    assert await world.sync() == UNKNOWN_SECONDS
    assert world.broker.submitted() == []


@pytest.mark.claim("V11")
async def test_a_pod_beyond_its_nodes_partition_is_refused_with_the_numbers(world: World) -> None:
    world.node = replace(world.node, partition="debug")
    world.inventory = inventory_of("c1|debug|4|8000|idle|c1|c1|(null)|\n")
    world.restart()
    resources = {"requests": {"cpu": "5"}}
    world.add(pod(containers=[{"name": "main", "image": "x", "resources": resources}]))
    await world.sync()
    assert world.broker.submitted() == []
    _, reason, message = world.events.emitted[0]
    assert reason == "SlurmRejected"
    assert "5 CPUs" in message
    assert "the largest node of partition debug has 4 CPUs" in message


@pytest.mark.claim("V10")
async def test_a_pod_on_a_partitions_node_is_submitted_there(world: World) -> None:
    world.node = replace(world.node, name="slurm-debug", partition="debug")
    world.restart()
    world.add(pod())
    await world.sync()
    (request,) = world.broker.submitted()
    assert request.options["partition"] == "debug"
    (entry,) = world.journal.entries()
    assert entry.node == "slurm-debug"
