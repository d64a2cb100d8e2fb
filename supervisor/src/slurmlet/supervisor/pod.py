"""The life of a pod: init containers in order, then all others, one restart policy, one verdict."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slurmlet.contracts.podproto import Event, Plan, Status
from slurmlet.supervisor.container import Container
from slurmlet.supervisor.logs import LogFile
from slurmlet.supervisor.runtime import Runtime
from slurmlet.supervisor.status import CREATING, INITIALIZING, Record, phase, verdict
from slurmlet.supervisor.stopping import Stopping

DEFAULT_GRACE = 30.0
DEADLINE_REASON = "DeadlineExceeded"
_DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


class Pod:
    """Runs a plan on a runtime; every change is a numbered snapshot given to `publish`. `started`
    is since when the pod is active, in seconds since the epoch; 0 is from now on."""

    def __init__(
        self,
        plan: Plan,
        *,
        logs: Path,
        log_limit: int,
        publish: Callable[[Status], None],
        tell: Callable[[Event], None],
        started: float = 0,
    ) -> None:
        self._started = started
        self._plan = plan
        self._spec: Mapping[str, Any] = plan.pod["spec"]
        self._logs = logs
        self._log_limit = log_limit
        self._publish = publish
        self._tell = tell
        self._sequence = 0
        self._reason: str | None = None
        self._message: str | None = None
        self._containers: dict[str, Container] = {}
        self.policy: str = self._spec.get("restartPolicy") or "Always"
        self.stopping = Stopping()
        self._sidecars_stopping = Stopping()
        self.records = records_of(self._spec)

    @property
    def grace(self) -> float:
        """Seconds between the stop signal and SIGKILL."""
        value = self._spec.get("terminationGracePeriodSeconds")
        return DEFAULT_GRACE if value is None else float(value)

    def log(self, container: str) -> LogFile | None:
        """The newest log of a container that has started."""
        known = self._containers.get(container)
        return known.log if known else None

    def stop(self, grace: float, *, reason: str | None = None, message: str | None = None) -> None:
        """Stop everything; `reason` and `message` become the pod's unless it has some already."""
        if reason and self._reason is None:
            self._reason, self._message = reason, message
        self.stopping.request(grace)

    async def run(self, runtime: Runtime) -> tuple[Status, int]:
        """Run to the end; the final snapshot and the supervisor's exit code."""
        self.changed()
        timer = self._set_deadline()
        sidecars: list[asyncio.Task[None]] = []
        try:
            if await self._initialize(runtime, sidecars):
                mains = [
                    self._container(runtime, container, record, policy=self.policy)
                    for container, record in self._pairs("containers")
                ]
                await asyncio.gather(*(container.run() for container in mains))
        finally:
            if timer:
                timer.cancel()
            self._sidecars_stopping.request(
                self.stopping.left if self.stopping.requested.is_set() else self.grace
            )
            await asyncio.gather(*sidecars)
        return self.finish()

    def fail(self, reason: str, message: str) -> tuple[Status, int]:
        """The end of a pod that could not be set up."""
        self._reason, self._message = reason, message
        return self.finish()

    def finish(self) -> tuple[Status, int]:
        """The final snapshot and the supervisor's exit code."""
        status = self._snapshot(final=True)
        self._publish(status)
        return status, verdict(self.records, phase=status.phase)

    def changed(self) -> None:
        """Publish a snapshot."""
        self._publish(self._snapshot(final=False))

    async def _initialize(self, runtime: Runtime, sidecars: list[asyncio.Task[None]]) -> bool:
        """Run the init containers; whether the others may start."""
        # An init container that succeeded is done, whatever the pod's policy.
        policy = "Never" if self.policy == "Never" else "OnFailure"
        for definition, record in self._pairs("initContainers"):
            if not record.sidecar:
                container = self._container(runtime, definition, record, policy=policy)
                await container.run()
                if not container.succeeded:
                    return False
                continue
            container = self._container(runtime, definition, record, policy="Always")
            task = asyncio.create_task(container.run())
            sidecars.append(task)
            stop = asyncio.create_task(self.stopping.requested.wait())
            ran = asyncio.create_task(container.ran.wait())
            await asyncio.wait((stop, ran, task), return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            ran.cancel()
        if self.stopping.requested.is_set():
            return False
        for record in self.records:
            if not record.init:
                record.state = CREATING
        self.changed()
        return True

    def _container(
        self, runtime: Runtime, definition: Mapping[str, Any], record: Record, *, policy: str
    ) -> Container:
        metadata = self._plan.pod["metadata"]
        container = Container(
            definition,
            pod=f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})",
            record=record,
            policy=policy,
            runtime=runtime,
            stopping=self._sidecars_stopping if record.sidecar else self.stopping,
            logs=self._logs,
            log_limit=self._log_limit,
            changed=self.changed,
            tell=self._tell,
        )
        self._containers[record.name] = container
        return container

    def _pairs(self, key: str) -> list[tuple[Mapping[str, Any], Record]]:
        by_name = {record.name: record for record in self.records}
        return [(item, by_name[item["name"]]) for item in self._spec.get(key) or ()]

    def _set_deadline(self) -> asyncio.TimerHandle | None:
        deadline = self._spec.get("activeDeadlineSeconds")
        if not deadline:
            return None
        # The start of the job is the pod's startTime: what was done since counts.
        past = time.time() - self._started if self._started else 0.0
        left = float(deadline) - max(past, 0.0)
        return asyncio.get_running_loop().call_later(max(left, 0.0), self._exceeded)

    def _exceeded(self) -> None:
        self._tell(Event(reason=DEADLINE_REASON, message=_DEADLINE_MESSAGE))
        self.stop(self.grace, reason=DEADLINE_REASON, message=_DEADLINE_MESSAGE)

    def _snapshot(self, *, final: bool) -> Status:
        self._sequence += 1
        value = phase(self.records, final=final)
        if final and self._reason:
            value = "Failed"
        return Status(
            seq=self._sequence,
            phase=value,
            containers=tuple(record.report() for record in self.records),
            final=final,
            reason=self._reason,
            message=self._message,
        )


def records_of(spec: Mapping[str, Any]) -> Sequence[Record]:
    """A record for each container, before anything has happened."""
    first = INITIALIZING if spec.get("initContainers") else CREATING
    return [
        Record(
            name=item["name"],
            init=key == "initContainers",
            sidecar=key == "initContainers" and item.get("restartPolicy") == "Always",
            state=first,
            image=item.get("image") or "",
        )
        for key in ("initContainers", "containers")
        for item in spec.get(key) or ()
    ]
