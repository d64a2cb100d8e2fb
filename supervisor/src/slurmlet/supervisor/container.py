"""The life of one container: pull, start, end, back-off, start again."""

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from slurmlet.contracts.audit import STARTED
from slurmlet.contracts.names import log_file
from slurmlet.contracts.podproto import ContainerState, Event
from slurmlet.supervisor.images import Image, ImageError
from slurmlet.supervisor.logs import LogFile, remove_log
from slurmlet.supervisor.process import ProcessError
from slurmlet.supervisor.restart import FIRST_DELAY, BackOff, restarts
from slurmlet.supervisor.runtime import START_FAILED, Exit, Runtime, Started
from slurmlet.supervisor.spec import SpecError, signal_number
from slurmlet.supervisor.status import KILLED, Record, now
from slurmlet.supervisor.stopping import Stopping

LOG = logging.getLogger("slurmlet.supervisor")
_SIGNAL_RETRY = 0.05
"""Seconds between tries to signal a container whose first process does not exist yet."""
_CONFIG_RETRY = 10.0
"""Seconds between looks for what a container's environment refers to, as kubelet backs off."""
_KEPT_LOGS = 2
"""Logs of the current and the previous start, as `kubectl logs --previous` asks for."""


class Container:
    """Runs one container of the plan by its restart policy until it is done or stopped. `pod` is
    what messages call its pod."""

    def __init__(
        self,
        container: Mapping[str, Any],
        *,
        pod: str,
        record: Record,
        policy: str,
        runtime: Runtime,
        stopping: Stopping,
        logs: Path,
        log_limit: int,
        changed: Callable[[], None],
        tell: Callable[[Event], None],
    ) -> None:
        self.record = record
        self.log: LogFile | None = None
        self.ran = asyncio.Event()
        self._container = container
        self._pod = pod
        self._policy = policy
        self._runtime = runtime
        self._stopping = stopping
        self._logs = logs
        self._log_limit = log_limit
        self._changed = changed
        self._tell = tell

    @property
    def succeeded(self) -> bool:
        state = self.record.state
        return state.kind == "terminated" and state.exit_code == 0

    async def run(self) -> None:
        """Return when the container will not start again."""
        back_off = BackOff()
        restart = 0
        while not self._stopping.requested.is_set():
            image = await self._image()
            if image is None or self._stopping.requested.is_set():
                break
            ended = await self._once(image, restart=restart)
            if ended is None or self._stopping.requested.is_set():
                break
            if not restarts(self._policy, exit_code=ended.code):
                break
            if await self._wait_for_restart(back_off.next(monotonic())):
                break
            if ended.error:
                await self._runtime.refresh()
            restart += 1
        if self.record.state.kind == "waiting":
            self._end_waiting()

    async def _image(self) -> Image | None:
        """The image, however long it takes; None when the pod stops before."""
        text = self._container.get("image") or ""
        self.record.image = text
        back_off = BackOff(first=FIRST_DELAY)
        while True:
            pulling = asyncio.ensure_future(
                self._runtime.pull(self._container, tell=self._tell_normal)
            )
            stop = asyncio.ensure_future(self._stopping.requested.wait())
            try:
                await asyncio.wait((pulling, stop), return_when=asyncio.FIRST_COMPLETED)
                if not pulling.done():
                    return None
                image = pulling.result()
            except ImageError as error:
                self._waiting(error.reason, str(error))
                self._warn("Failed", f'Failed to pull image "{text}": {error}')
                self._warn("Failed", f"Error: {error.reason}")
            else:
                self.record.image_id = image.image_id
                return image
            finally:
                pulling.cancel()
                stop.cancel()
                await asyncio.gather(pulling, stop, return_exceptions=True)
            delay = back_off.next(monotonic())
            if error_reason(self.record) == "ErrImagePull":
                message = (
                    f'Back-off pulling image "{text}": ErrImagePull: {self.record.state.message}'
                )
                self._waiting("ImagePullBackOff", message)
                self._tell_normal("BackOff", f'Back-off pulling image "{text}"')
            if await self._stopping.pause(delay):
                return None

    async def _once(self, image: Image, *, restart: int) -> Exit | None:
        """One start to its end; None when it cannot be made and the pod stops."""
        name = self.record.name
        started_at = now()
        try:
            log = LogFile(self._logs / log_file(name, restart), limit=self._log_limit)
            self._forget_logs(restart)
        except OSError as error:
            return self._failed_start(f"log: {error}", started_at=started_at, restart=restart)
        LOG.info(STARTED, name, restart)
        try:
            started = await self._start(image, restart=restart, log=log)
        except ProcessError as error:
            log.finish()
            return self._failed_start(str(error), started_at=started_at, restart=restart)
        if started is None:
            log.finish()
            return None
        started_at = now()
        self.log = log
        self.record.restart_count = restart
        self.record.container_id = f"slurmlet://{started.id}"
        self.record.state = ContainerState(kind="running", started_at=started_at)
        self._tell_normal("Created", "Container created")
        self._tell_normal("Started", "Container started")
        self.ran.set()
        self._changed()
        stopper = asyncio.create_task(self._stop(started, signal_number(image.stop_signal)))
        try:
            ended = await started.wait()
        finally:
            stopper.cancel()
        if ended.error:
            self._warn("Failed", f"Error: {ended.error}")
        self._terminated(ended, started_at=started_at)
        await started.clean()
        return ended

    async def _start(self, image: Image, *, restart: int, log: LogFile) -> Started | None:
        """Start it as soon as there is what it refers to; None when the pod stops before.

        Raises:
            ProcessError: it could not be started.
        """
        while True:
            try:
                return await self._runtime.start(
                    self._container, image=image, restart=restart, log=log
                )
            except SpecError as error:
                self._waiting("CreateContainerConfigError", str(error))
                self._warn("Failed", f"Error: {error}")
            if await self._stopping.pause(_CONFIG_RETRY):
                return None
            await self._runtime.refresh()

    def _failed_start(self, message: str, *, started_at: str, restart: int) -> Exit:
        self.record.restart_count = restart
        self._warn("Failed", f"Error: {message}")
        ended = Exit(code=START_FAILED, error=message)
        self._terminated(ended, started_at=started_at)
        return ended

    async def _stop(self, started: Started, number: int) -> None:
        """Upon request: the stop signal, the grace, SIGKILL."""
        await self._stopping.requested.wait()
        self._tell_normal("Killing", f"Stopping container {self.record.name}")
        # No event tells that the engine has made the container's first process.
        while self._stopping.left > 0 and not started.signal(number):  # noqa: ASYNC110
            await asyncio.sleep(_SIGNAL_RETRY)
        await self._stopping.expired()
        while not started.signal(signal.SIGKILL):  # noqa: ASYNC110
            await asyncio.sleep(_SIGNAL_RETRY)

    async def _wait_for_restart(self, delay: float) -> bool:
        """Sit out the back-off; whether the pod stops instead."""
        self.record.last = self.record.state
        if not delay:
            return False
        name = self.record.name
        self._warn("BackOff", f"Back-off restarting failed container {name} in pod {self._pod}")
        self._waiting(
            "CrashLoopBackOff",
            f"back-off {_duration(delay)} restarting failed container={name} pod={self._pod}",
        )
        stopped = await self._stopping.pause(delay)
        if stopped:
            # What it ended with says more than that it would have started again.
            self.record.state, self.record.last = self.record.last, None
            self._changed()
        return stopped

    def _terminated(self, ended: Exit, *, started_at: str) -> None:
        reason = "Completed" if ended.code == 0 else "Error"
        if ended.out_of_memory:
            reason = "OOMKilled"
        self.record.state = ContainerState(
            kind="terminated",
            reason="StartError" if ended.error else reason,
            message=ended.error or ended.message or None,
            exit_code=ended.code,
            started_at=started_at,
            finished_at=now(),
        )
        self._changed()

    def _end_waiting(self) -> None:
        """A container that never ran and never will."""
        self.record.state = ContainerState(
            kind="terminated",
            reason="ContainerStatusUnknown",
            message="The container was stopped before it started",
            exit_code=KILLED,
        )
        self._changed()

    def _waiting(self, reason: str, message: str) -> None:
        self.record.state = ContainerState(kind="waiting", reason=reason, message=message)
        self._changed()

    def _tell_normal(self, reason: str, message: str) -> None:
        self._tell(Event(reason=reason, message=message, container=self.record.name))

    def _warn(self, reason: str, message: str) -> None:
        self._tell(
            Event(reason=reason, message=message, kind="Warning", container=self.record.name)
        )

    def _forget_logs(self, restart: int) -> None:
        if restart >= _KEPT_LOGS:
            remove_log(self._logs / log_file(self.record.name, restart - _KEPT_LOGS))


def _duration(seconds: float) -> str:
    """As kubelet prints them: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def error_reason(record: Record) -> str | None:
    """Why a container waits."""
    return record.state.reason if record.state.kind == "waiting" else None
