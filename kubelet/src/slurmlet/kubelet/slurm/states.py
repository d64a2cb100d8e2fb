"""What a Slurm job state means for a pod (docs/contracts.md, Job → pod): one total table."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Meaning(Enum):
    """How a state acts on the pod. Only ENDED is final."""

    WAITING = "waiting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    UNCHANGED = "unchanged"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The meaning of a state. `reason` is what the pod shows where Slurm alone decides.

    For ENDED: `succeeded` says how without a report of the supervisor, `exit_code` of containers
    that had no time to report, `disrupted` that it was not the pod's own doing.
    """

    meaning: Meaning
    reason: str = ""
    succeeded: bool = False
    exit_code: int = 137
    disrupted: bool = False
    known: bool = True

    @property
    def by_slurm(self) -> bool:
        """Whether the job ended because Slurm, or somebody by it, ended it."""
        return self.meaning is Meaning.ENDED and self.reason not in ("Completed", "Error")

    @property
    def queued(self) -> bool:
        """Whether the job waits, in the queue or held, and Slurm has a reason for that."""
        return self.meaning is Meaning.WAITING or self == _HELD


def _waiting(reason: str) -> Observation:
    return Observation(meaning=Meaning.WAITING, reason=reason)


def _ended(reason: str, *, exit_code: int = 137, disrupted: bool = False) -> Observation:
    return Observation(
        meaning=Meaning.ENDED, reason=reason, exit_code=exit_code, disrupted=disrupted
    )


_UNCHANGED = Observation(meaning=Meaning.UNCHANGED)
_REQUEUED = Observation(meaning=Meaning.UNCHANGED, reason="SlurmRequeued")
_HELD = Observation(meaning=Meaning.UNCHANGED, reason="SlurmHeld")
_SUSPENDED = Observation(meaning=Meaning.SUSPENDED, reason="SlurmSuspended")
UNKNOWN = Observation(meaning=Meaning.UNCHANGED, known=False)
REQUEUED = _ended("SlurmRequeued", disrupted=True)
"""A job that waits although its pod has begun: one job is one try."""

TABLE: Mapping[str, Observation] = {
    "PENDING": _waiting("SlurmPending"),
    "CONFIGURING": _waiting("NodeBooting"),
    "POWER_UP_NODE": _waiting("NodeBooting"),
    "RUNNING": Observation(meaning=Meaning.RUNNING),
    "SUSPENDED": _SUSPENDED,
    "STOPPED": _SUSPENDED,
    "COMPLETING": _UNCHANGED,
    "SIGNALING": _UNCHANGED,
    "RESIZING": _UNCHANGED,
    "STAGE_OUT": _UNCHANGED,
    "UPDATE_DB": _UNCHANGED,
    "EXPEDITING": _REQUEUED,
    "REQUEUED": _REQUEUED,
    "REQUEUE_FED": _REQUEUED,
    "REQUEUE_HOLD": _HELD,
    "SPECIAL_EXIT": _HELD,
    "RESV_DEL_HOLD": _HELD,
    "COMPLETED": Observation(
        meaning=Meaning.ENDED, reason="Completed", succeeded=True, exit_code=0
    ),
    "FAILED": _ended("Error"),
    "OUT_OF_MEMORY": _ended("OOMKilled"),
    "CANCELLED": _ended("SlurmCancelled"),
    "TIMEOUT": _ended("DeadlineExceeded"),
    "DEADLINE": _ended("DeadlineExceeded"),
    "NODE_FAIL": _ended("NodeLost", disrupted=True),
    "BOOT_FAIL": _ended("NodeLost", disrupted=True),
    "PREEMPTED": _ended("Preempted", disrupted=True),
    "LAUNCH_FAILED": _ended("SlurmLaunchFailed"),
    "GETENV_FAILED": _ended("SlurmLaunchFailed"),
    "RECONFIG_FAIL": _ended("SlurmLaunchFailed"),
    "REVOKED": _ended("SlurmRevoked"),
    "LOST": _ended("SlurmJobLost", disrupted=True),
}
"""Slurm's states, and LOST for a job that neither slurmctld nor the accounting knows any more."""


def observe(state: str) -> Observation:
    """The meaning of the text that squeue or sacct print for a state.

    sacct appends to some (`CANCELLED by 2001`); what is not in the table changes nothing.
    """
    word = state.split(maxsplit=1)[0].rstrip("+") if state.strip() else ""
    return TABLE.get(word, UNKNOWN)
