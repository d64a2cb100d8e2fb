"""From hello to verdict, with a real agent's protocol and a fake runtime."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme

from slurmlet.contracts.names import SLURM_ENDED_REASON
from slurmlet.contracts.podproto import Ack, Bye, Hello, Message, Status, Stop, decode_message
from slurmlet.contracts.site import Cluster
from slurmlet.supervisor import session as session_module
from slurmlet.supervisor.config import Job, Settings, Supervisor
from slurmlet.supervisor.process import ProcessError
from slurmlet.supervisor.session import Session, helper_environment

from .agents import Agent, give
from .plans import UID, make_plan
from .test_pod import FakeRuntime


class NoAnchor:
    """Namespaces are another test's matter."""

    ran: ClassVar[list[Any]] = []

    async def run(self, argv: Any) -> None:
        await asyncio.sleep(0.05)
        self.ran.append(argv)

    async def unmount_below(self, path: str) -> None:
        return

    async def stop(self) -> None:
        return


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
async def session(
    agent: Agent,
    authority: trustme.CA,
    tmp_path: Path,
    runtime: FakeRuntime,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    async def start(_: Any, **__: Any) -> NoAnchor:
        return NoAnchor()

    async def made(*_: Any, **__: Any) -> FakeRuntime:
        return runtime

    monkeypatch.setattr(session_module, "start_anchor", start)
    monkeypatch.setattr(Session, "_runtime", made)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "scratch").mkdir()
    async with agent.listening():
        yield Session(
            Settings(
                supervisor=Supervisor(
                    ca_file=str(tmp_path / "ca.crt"), scratch_dir=str(tmp_path / "scratch")
                ),
                cluster=Cluster(name="lab"),
                job=Job(
                    job_id=7,
                    host="c1",
                    agent_host="127.0.0.1",
                    agent_port=agent.port,
                    pod_uid=UID,
                    token="5" * 64,
                ),
                state_dir=tmp_path / "state",
                image_cache=tmp_path / "cache",
            ),
            {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "7", "HOME": "/h"},
        )


async def end(session: Session) -> int:
    async with asyncio.timeout(10):
        return await session.run()


async def test_a_pod_runs_and_its_end_is_stored_twice(
    session: Session, agent: Agent, runtime: FakeRuntime, tmp_path: Path
) -> None:
    runtime.codes["a"] = [3]
    agent.on_message = give(make_plan([{"name": "a"}], restartPolicy="Never"))
    assert await end(session) == 3
    final = agent.of(Status)[-1]
    assert (final.phase, final.final) == ("Failed", True)
    record = session.state / "exit.json"
    assert decode_message(record.read_text()) == final
    assert not list((tmp_path / "scratch").iterdir())


async def test_a_pod_that_ends_at_once_removes_what_a_killed_one_left(
    session: Session, agent: Agent, runtime: FakeRuntime, tmp_path: Path
) -> None:
    runtime.codes["a"] = [0]
    left = tmp_path / "scratch/slurmlet-6-left"
    left.mkdir()
    (left / "lock").touch()
    agent.on_message = give(make_plan([{"name": "a"}], restartPolicy="Never"))
    NoAnchor.ran.clear()
    await end(session)
    assert ["rm", "-rf", "--one-file-system", "--", str(left)] in NoAnchor.ran


async def test_the_verdict_waits_for_the_acknowledgement(
    session: Session, agent: Agent, runtime: FakeRuntime
) -> None:
    runtime.codes["a"] = [0]
    plan = give(make_plan([{"name": "a"}], restartPolicy="Never"))
    agent.on_message = lambda message: plan(message) if isinstance(message, Hello) else []
    running = asyncio.create_task(end(session))
    await agent.until(lambda: agent.of(Status) and agent.of(Status)[-1].final)
    assert not running.done()
    await agent.send(Ack(seq=agent.of(Status)[-1].seq))
    assert await running == 0


async def test_stop_and_signals_reach_the_containers(
    session: Session, agent: Agent, runtime: FakeRuntime
) -> None:
    agent.on_message = give(make_plan([{"name": "a"}, {"name": "b"}]))
    runtime.deaf = {"b"}
    running = asyncio.create_task(end(session))
    await agent.until(lambda: agent.of(Status) and agent.of(Status)[-1].phase == "Running")
    session.terminate()
    await agent.send(Stop(grace=0.05))
    assert await running == 137
    assert runtime.running["a"].signals == [15]


async def test_a_pod_that_slurm_ends_fails(
    session: Session, agent: Agent, runtime: FakeRuntime
) -> None:
    agent.on_message = give(make_plan([{"name": "a"}]))
    running = asyncio.create_task(end(session))
    await agent.until(lambda: agent.of(Status) and agent.of(Status)[-1].phase == "Running")
    session.terminate()
    await running
    assert (agent.of(Status)[-1].phase, agent.of(Status)[-1].reason) == (
        "Failed",
        SLURM_ENDED_REASON,
    )


@pytest.mark.parametrize(
    ("left", "reason"), [(100, "DeadlineExceeded"), (-5, "DeadlineExceeded"), (3000, "by Slurm")]
)
async def test_a_warning_near_the_time_limit_is_that_of_the_time_limit(
    session: Session, agent: Agent, runtime: FakeRuntime, left: float, reason: str
) -> None:
    """Any other is Slurm's to explain."""
    session._settings = replace(
        session._settings, job=replace(session._settings.job, ends=int(time.time() + left))
    )
    agent.on_message = give(make_plan([{"name": "a"}], terminationGracePeriodSeconds=50))
    running = asyncio.create_task(end(session))
    await agent.until(lambda: agent.of(Status) and agent.of(Status)[-1].phase == "Running")
    session.warned()
    await running
    final = agent.of(Status)[-1]
    assert final.phase == "Failed"
    assert final.reason == (SLURM_ENDED_REASON if reason == "by Slurm" else reason)


async def test_a_dismissed_supervisor_starts_nothing(
    session: Session, agent: Agent, runtime: FakeRuntime
) -> None:
    def dismiss(message: Message) -> list[Message]:
        return [Bye(reason="another job has this pod")]

    agent.on_message = dismiss
    assert await end(session) == 1
    assert runtime.order == []
    assert not session.state.exists()


async def test_a_job_that_ends_before_its_plan_starts_nothing(
    session: Session, agent: Agent, runtime: FakeRuntime
) -> None:
    running = asyncio.create_task(end(session))
    await agent.until(lambda: agent.of(Hello))
    session.terminate()
    assert await running == 75
    assert runtime.order == []


async def test_waiting_for_a_plan_has_an_end(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "PLAN_TIMEOUT", 0.1)
    assert await end(session) == 75


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (ProcessError("no user namespaces"), "FailedCreatePodSandBox", "no user namespaces"),
        (PermissionError(13, "Permission denied", "/s"), "FailedCreatePodSandBox", "/s: Permis"),
        (RuntimeError("secret"), "SupervisorFailed", "internal error"),
    ],
)
async def test_what_cannot_be_set_up_fails_the_pod_and_says_why(
    session: Session,
    agent: Agent,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
    words: str,
) -> None:
    async def fail(_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(session_module, "start_anchor", fail)
    agent.on_message = give(make_plan([{"name": "a"}]))
    assert await end(session) == 1
    final = agent.of(Status)[-1]
    assert (final.phase, final.reason) == ("Failed", reason)
    assert words in final.message
    assert "secret" not in final.message


def test_helpers_get_nothing_of_slurm_and_no_token() -> None:
    job = {"PATH": "/p", "HOME": "/h", "SLURM_JOB_ID": "1", "SLURMLET_TOKEN": "t", "LANG": "C"}
    assert helper_environment(job) == {"PATH": "/p", "HOME": "/h", "LANG": "C"}
