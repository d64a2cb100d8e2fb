"""Container records → the snapshot that the agent gets. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from slurmlet.contracts.podproto import ContainerReport, ContainerState

CREATING = ContainerState(kind="waiting", reason="ContainerCreating")
INITIALIZING = ContainerState(kind="waiting", reason="PodInitializing")
KILLED = 137


@dataclass(slots=True, kw_only=True)
class Record:
    """What is known of a container; `sidecar` is an init container that keeps running."""

    name: str
    init: bool = False
    sidecar: bool = False
    state: ContainerState = CREATING
    last: ContainerState | None = None
    restart_count: int = 0
    image: str = ""
    image_id: str = ""
    container_id: str = ""

    def report(self) -> ContainerReport:
        running = self.state.kind == "running"
        done = self.state.kind == "terminated" and self.state.exit_code == 0
        # An ordinary init container is ready once it has succeeded.
        ready = done if self.init and not self.sidecar else running
        return ContainerReport(
            name=self.name,
            init=self.init,
            state=self.state,
            last=self.last,
            ready=ready,
            started=running,
            restart_count=self.restart_count,
            image=self.image,
            image_id=self.image_id,
            container_id=self.container_id,
        )


def now() -> str:
    """The time in RFC 3339, whole seconds, as metav1.Time has it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def phase(records: Sequence[Record], *, final: bool) -> str:
    """The pod's phase as kubelet derives it; Succeeded and Failed only when `final`, which says
    that nothing runs any more."""
    main = [record for record in records if not record.init]
    codes = [_exit_code(record) for record in main]
    if final:
        good = all(code == 0 for code in codes) and not _failed_init(records)
        return "Succeeded" if good else "Failed"
    waiting = any(record.state.kind == "waiting" and not record.last for record in main)
    return "Pending" if waiting else "Running"


def _failed_init(records: Sequence[Record]) -> bool:
    return any(_exit_code(record) for record in records if record.init and not record.sidecar)


def verdict(records: Sequence[Record], *, phase: str) -> int:
    """The supervisor's exit code: 0 for Succeeded, else that of the first failed container."""
    if phase == "Succeeded":
        return 0
    codes = [_exit_code(record) for record in records if not record.sidecar]
    return next((code for code in codes if code and 0 < code < 256), 1)


def _exit_code(record: Record) -> int | None:
    for state in (record.state, record.last):
        if state is not None and state.kind == "terminated":
            return state.exit_code
    return None
