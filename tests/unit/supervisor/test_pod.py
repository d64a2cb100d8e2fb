"""The life of a pod on a fake runtime: order, restarts, back-off, stop, verdict."""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from slurmlet.contracts.podproto import Event, Status
from slurmlet.supervisor import container, restart
from slurmlet.supervisor.images import Image, ImageError, Tell
from slurmlet.supervisor.logs import LogFile
from slurmlet.supervisor.pod import Pod
from slurmlet.supervisor.process import ProcessError
from slurmlet.supervisor.runtime import Exit, Started
from slurmlet.supervisor.spec import SpecError

from .plans import make_plan


class FakeStarted:
    """A container that ends when the test or a signal says so."""

    def __init__(self, name: str, *, log: LogFile, deaf: bool) -> None:
        self.id = f"id-{name}"
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.signals: list[int] = []
        self._log = log
        self._deaf = deaf

    async def wait(self) -> Exit:
        code = await self.ended
        self._log.finish()
        return Exit(code=code)

    def signal(self, number: int) -> bool:
        self.signals.append(number)
        if not self.ended.done() and (number == signal.SIGKILL or not self._deaf):
            self.ended.set_result(128 + number if number == signal.SIGKILL else 0)
        return True

    async def clean(self) -> None:
        return


class FakeRuntime:
    """`codes` lists how the starts of a container end; without more it runs until it is stopped."""

    def __init__(self, **codes: list[int | Exception]) -> None:
        self.codes = codes
        self.images: dict[str, list[Exception]] = {}
        self.order: list[str] = []
        self.running: dict[str, FakeStarted] = {}
        self.deaf: set[str] = set()
        self.refreshed = 0

    async def refresh(self) -> None:
        self.refreshed += 1

    async def pull(self, container: Mapping[str, Any], *, tell: Tell) -> Image:
        errors = self.images.get(container["name"])
        if errors:
            raise errors.pop(0)
        return Image(name="x", image_id=f"x@{container['name']}", rootfs=Path("/r"))

    async def start(
        self, container: Mapping[str, Any], *, image: Image, restart: int, log: LogFile
    ) -> Started:
        name = container["name"]
        self.order.append(f"{name}.{restart}")
        codes = self.codes.get(name) or []
        ending = codes.pop(0) if codes else None
        if isinstance(ending, Exception):
            raise ending
        started = FakeStarted(name, log=log, deaf=name in self.deaf)
        if ending is not None:
            started.ended.set_result(ending)
        self.running[name] = started
        return started


class Run:
    """A pod that runs in the background, with all that it has told."""

    def __init__(
        self,
        tmp_path: Path,
        runtime: FakeRuntime,
        *names: str,
        init: Any = (),
        started: float = 0,
        **spec: Any,
    ) -> None:
        self.statuses: list[Status] = []
        self.events: list[Event] = []
        self.news = asyncio.Event()
        plan = make_plan(
            [{"name": name, "image": "x"} for name in names], initContainers=list(init), **spec
        )
        self.pod = Pod(
            plan,
            logs=tmp_path,
            log_limit=10**6,
            publish=self._publish,
            tell=self.events.append,
            started=started,
        )
        self.task = asyncio.create_task(self.pod.run(runtime))

    def _publish(self, status: Status) -> None:
        self.statuses.append(status)
        self.news.set()

    async def until(self, condition: Callable[[Status], bool]) -> Status:
        async with asyncio.timeout(5):
            while not (self.statuses and condition(self.statuses[-1])):
                self.news.clear()
                await self.news.wait()
        return self.statuses[-1]

    async def end(self) -> tuple[Status, int]:
        async with asyncio.timeout(5):
            return await self.task


def states(status: Status) -> dict[str, str | None]:
    return {
        item.name: item.state.reason if item.state.kind == "waiting" else item.state.kind
        for item in status.containers
    }


@pytest.fixture
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (restart, container):
        monkeypatch.setattr(module, "FIRST_DELAY", 0.01)


async def test_a_pod_that_succeeds(tmp_path: Path) -> None:
    run = Run(tmp_path, FakeRuntime(a=[0], b=[0]), "a", "b", restartPolicy="Never")
    status, code = await run.end()
    assert (status.phase, status.final, code) == ("Succeeded", True, 0)
    assert [item.seq for item in run.statuses] == list(range(1, len(run.statuses) + 1))
    assert run.statuses[0].phase == "Pending"
    assert states(run.statuses[0]) == {"a": "ContainerCreating", "b": "ContainerCreating"}
    report = status.containers[0]
    assert (report.image_id, report.container_id) == ("x@a", "slurmlet://id-a")
    assert report.state.finished_at is not None
    assert [event.reason for event in run.events if event.container == "a"] == [
        "Created",
        "Started",
    ]


async def test_the_first_failing_container_gives_the_verdict(tmp_path: Path) -> None:
    run = Run(tmp_path, FakeRuntime(a=[0], b=[3], c=[4]), "a", "b", "c", restartPolicy="Never")
    status, code = await run.end()
    assert (status.phase, code) == ("Failed", 3)
    assert [item.state.reason for item in status.containers] == ["Completed", "Error", "Error"]


async def test_init_containers_run_in_order_before_the_others(tmp_path: Path) -> None:
    runtime = FakeRuntime(i=[0], j=[0], a=[0])
    init = [{"name": "i"}, {"name": "j"}]
    run = Run(tmp_path, runtime, "a", init=init, restartPolicy="Never")
    assert (await run.end())[0].phase == "Succeeded"
    assert runtime.order == ["i.0", "j.0", "a.0"]
    assert states(run.statuses[0])["a"] == "PodInitializing"


async def test_a_failed_init_container_ends_a_pod_that_never_restarts(tmp_path: Path) -> None:
    runtime = FakeRuntime(i=[7])
    run = Run(tmp_path, runtime, "a", init=[{"name": "i"}], restartPolicy="Never")
    status, code = await run.end()
    assert (status.phase, code) == ("Failed", 7)
    assert runtime.order == ["i.0"]


async def test_a_failed_init_container_is_repeated_otherwise(
    tmp_path: Path, no_delay: None
) -> None:
    runtime = FakeRuntime(i=[7, 7, 0], a=[0])
    run = Run(tmp_path, runtime, "a", init=[{"name": "i"}], restartPolicy="OnFailure")
    assert (await run.end())[1] == 0
    assert runtime.order == ["i.0", "i.1", "i.2", "a.0"]


async def test_a_sidecar_runs_beside_the_others_and_is_stopped_after_them(tmp_path: Path) -> None:
    runtime = FakeRuntime(a=[0])
    init = [{"name": "side", "restartPolicy": "Always"}]
    run = Run(tmp_path, runtime, "a", init=init, restartPolicy="Never")
    status, code = await run.end()
    assert (status.phase, code) == ("Succeeded", 0)
    assert runtime.order == ["side.0", "a.0"]
    assert runtime.running["side"].signals[0] == signal.SIGTERM


async def test_restarts_count_and_back_off(tmp_path: Path, no_delay: None) -> None:
    runtime = FakeRuntime(a=[1, 1, 1])
    run = Run(tmp_path, runtime, "a")
    await run.until(lambda status: status.containers[0].restart_count == 3)
    assert runtime.order == ["a.0", "a.1", "a.2", "a.3"]
    looping = [item for item in run.statuses if "CrashLoopBackOff" in states(item).values()]
    # The first restart is immediate.
    assert [item.containers[0].restart_count for item in looping] == [1, 2]
    assert "restarting failed container=a pod=web_alice(" in str(
        looping[0].containers[0].state.message
    )
    report = run.statuses[-1].containers[0]
    assert report.last is not None
    assert (report.state.kind, report.last.exit_code) == ("running", 1)
    assert run.statuses[-1].phase == "Running"
    # The logs of this start and the one before are kept.
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["2.log", "3.log"]
    run.pod.stop(1)
    await run.end()


async def test_on_failure_success_is_the_end(tmp_path: Path, no_delay: None) -> None:
    run = Run(tmp_path, FakeRuntime(a=[2, 0]), "a", restartPolicy="OnFailure")
    status, code = await run.end()
    assert (status.phase, code, status.containers[0].restart_count) == ("Succeeded", 0, 1)


async def test_stop_is_a_signal_a_grace_and_a_kill(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    runtime.deaf = {"b"}
    run = Run(tmp_path, runtime, "a", "b")
    await run.until(lambda status: status.phase == "Running")
    run.pod.stop(0.1)
    status, code = await run.end()
    assert runtime.running["a"].signals == [signal.SIGTERM]
    assert runtime.running["b"].signals == [signal.SIGTERM, signal.SIGKILL]
    assert [item.state.exit_code for item in status.containers] == [0, 137]
    assert (status.phase, code) == ("Failed", 137)
    assert runtime.order == ["a.0", "b.0"]


async def test_a_shorter_grace_wins(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    runtime.deaf = {"a"}
    run = Run(tmp_path, runtime, "a")
    await run.until(lambda status: status.phase == "Running")
    run.pod.stop(600)
    run.pod.stop(0.05)
    run.pod.stop(600)
    assert (await run.end())[1] == 137


async def test_a_pod_stopped_in_its_back_off_ends_with_what_it_had(tmp_path: Path) -> None:
    run = Run(tmp_path, FakeRuntime(a=[5, 5]), "a")
    await run.until(lambda status: states(status)["a"] == "CrashLoopBackOff")
    run.pod.stop(30)
    status, code = await run.end()
    assert (status.phase, code, status.containers[0].state.exit_code) == ("Failed", 5, 5)


async def test_a_pod_stopped_while_it_starts_starts_nothing(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    run = Run(tmp_path, runtime, "a", init=[{"name": "i"}])
    run.pod.stop(30)
    status, _ = await run.end()
    assert status.phase == "Failed"
    assert runtime.order == []


async def test_a_stop_that_comes_with_the_image_starts_nothing(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    run = Run(tmp_path, runtime, "a")
    pulled = runtime.pull

    async def pull(container: Mapping[str, Any], *, tell: Tell) -> Image:
        run.pod.stop(30)
        return await pulled(container, tell=tell)

    runtime.pull = pull  # type: ignore[method-assign]
    status, _ = await run.end()
    assert status.phase == "Failed"
    assert runtime.order == []


async def test_images_are_tried_again_in_kubelets_words(tmp_path: Path, no_delay: None) -> None:
    runtime = FakeRuntime(a=[0])
    runtime.images["a"] = [ImageError("ErrImagePull", "no route")] * 2
    run = Run(tmp_path, runtime, "a", restartPolicy="Never")
    assert (await run.end())[1] == 0
    reasons = [states(status)["a"] for status in run.statuses]
    assert reasons.count("ErrImagePull") == 2
    assert reasons.count("ImagePullBackOff") == 2
    assert [event.reason for event in run.events if event.kind == "Warning"] == ["Failed"] * 4


async def test_an_image_name_that_is_none_keeps_its_reason(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    runtime.images["a"] = [ImageError("InvalidImageName", "no name")]
    run = Run(tmp_path, runtime, "a")
    await run.until(lambda status: states(status)["a"] == "InvalidImageName")
    run.pod.stop(30)
    status, _ = await run.end()
    assert status.containers[0].state.reason == "ContainerStatusUnknown"


async def test_a_container_that_cannot_be_made_waits_and_says_why(tmp_path: Path) -> None:
    run = Run(tmp_path, FakeRuntime(a=[SpecError('secret "s" not found')]), "a", "b")
    status = await run.until(lambda status: states(status)["a"] == "CreateContainerConfigError")
    assert status.containers[0].state.message == 'secret "s" not found'
    await run.until(lambda status: states(status)["b"] == "running")
    run.pod.stop(30)
    assert (await run.end())[0].phase == "Failed"


async def test_a_container_starts_as_soon_as_there_is_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "_CONFIG_RETRY", 0.01)
    missing = SpecError('secret "s" not found')
    runtime = FakeRuntime(a=[missing, missing, 0])
    run = Run(tmp_path, runtime, "a", restartPolicy="Never")
    status, _ = await run.end()
    assert (status.phase, status.containers[0].restart_count) == ("Succeeded", 0)
    assert runtime.refreshed == 2
    assert [event.message for event in run.events if event.kind == "Warning"] == [
        'Error: secret "s" not found'
    ] * 2


async def test_what_made_a_start_fail_is_looked_at_again(tmp_path: Path, no_delay: None) -> None:
    runtime = FakeRuntime(a=[ProcessError("too large"), 0])
    run = Run(tmp_path, runtime, "a", restartPolicy="OnFailure")
    assert (await run.end())[0].phase == "Succeeded"
    assert runtime.refreshed == 1


async def test_an_engine_that_fails_is_a_failed_start(tmp_path: Path) -> None:
    run = Run(tmp_path, FakeRuntime(a=[ProcessError("no crun")]), "a", restartPolicy="Never")
    status, code = await run.end()
    state = status.containers[0].state
    assert (state.reason, state.message, code) == ("StartError", "no crun", 128)


async def test_a_log_directory_that_cannot_be_made_is_a_failed_start(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("in the way")
    status, _ = await Run(tmp_path, FakeRuntime(), "a", restartPolicy="Never").end()
    assert status.containers[0].state.reason == "StartError"


async def test_the_deadline_ends_the_pod(tmp_path: Path) -> None:
    run = Run(tmp_path, FakeRuntime(), "a", activeDeadlineSeconds=0.05)
    status, code = await run.end()
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
    assert code == 1
    assert run.events[-2].reason == "DeadlineExceeded"
    assert run.events[-1].reason == "Killing"


@pytest.mark.parametrize(("ago", "over"), [(1000, True), (10, False), (-50, False)])
async def test_the_deadline_counts_from_the_start_of_the_job(
    tmp_path: Path, ago: float, over: bool
) -> None:
    """Also when clocks differ."""
    run = Run(
        tmp_path,
        FakeRuntime(a=[0]) if not over else FakeRuntime(),
        "a",
        restartPolicy="Never",
        started=time.time() - ago,
        activeDeadlineSeconds=100,
    )
    status, _ = await run.end()
    assert status.reason == ("DeadlineExceeded" if over else None)


async def test_a_pull_does_not_outlast_the_deadline(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    runtime.images["a"] = [ImageError("ErrImagePull", "no route to host")]
    run = Run(tmp_path, runtime, "a", restartPolicy="Never", activeDeadlineSeconds=0.05)
    status, _ = await run.end()
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
    assert runtime.order == []


async def test_a_pod_that_cannot_be_set_up(tmp_path: Path) -> None:
    statuses: list[Status] = []
    pod = Pod(
        make_plan([{"name": "a"}]),
        logs=tmp_path,
        log_limit=1,
        publish=statuses.append,
        tell=lambda _: None,
    )
    status, code = pod.fail("FailedCreatePodSandBox", "no namespaces")
    assert (status.phase, status.reason, status.final, code) == (
        "Failed",
        "FailedCreatePodSandBox",
        True,
        1,
    )
    assert statuses == [status]
