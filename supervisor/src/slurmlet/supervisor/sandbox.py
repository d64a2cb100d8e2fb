"""The sandbox that Slurm's prolog made for this job, if any (docs/contracts.md, Sandbox record)."""

import json
from dataclasses import dataclass
from pathlib import Path

from slurmlet.contracts.names import SANDBOX_DISABLED, SANDBOX_JOBS
from slurmlet.supervisor.process import ProcessError

_MAX_RECORD = 65536
_MAX_REASON = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """`kinds` are its namespaces besides the user namespace; `hints` is where this pod's user tells
    steps of containers."""

    job_id: int
    kinds: tuple[str, ...]
    hints: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the agent is told of the sandbox: what root signed, or why there is nothing."""

    record: str | None = None
    problem: str | None = None


def find_proof(
    job_id: int,
    *,
    jobs: Path = Path(SANDBOX_JOBS),
    disabled: Path = Path(SANDBOX_DISABLED),
) -> Proof:
    """The signed record of the job's sandbox, whose text says nothing to us."""
    try:
        if find_sandbox(job_id, jobs=jobs) is None:
            if not disabled.exists():
                return Proof()
            with disabled.open(errors="replace") as text:
                return Proof(problem=f"this node makes none: {text.read(_MAX_REASON).strip()}")
        with (jobs / str(job_id) / "record.munge").open("rb") as file:
            return Proof(record=file.read(_MAX_RECORD).decode("ascii").strip())
    except ProcessError as error:
        return Proof(problem=str(error))
    except (OSError, ValueError) as error:
        return Proof(problem=f"its signed record cannot be read: {error}")


def find_sandbox(job_id: int, *, jobs: Path = Path(SANDBOX_JOBS)) -> Sandbox | None:
    """The job's sandbox, None if this node makes none.

    Raises:
        ProcessError: it should have one, and the prolog says why it has not.
    """
    directory = jobs / str(job_id)
    try:
        with (directory / "record.json").open("rb") as file:
            record = json.loads(file.read(_MAX_RECORD))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ProcessError(f"the sandbox's record cannot be read: {error}") from None
    if record.get("error"):
        raise ProcessError(f"the pod's sandbox could not be made: {record['error']}")
    kinds = tuple(kind for kind in record.get("namespaces") or () if kind != "user")
    return Sandbox(job_id=job_id, kinds=kinds, hints=directory / "pod")
