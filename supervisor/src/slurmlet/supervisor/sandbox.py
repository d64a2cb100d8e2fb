"""The sandbox that Slurm's prolog made for this job, if any (docs/contracts.md, Sandbox record)."""

import json
from dataclasses import dataclass
from pathlib import Path

from slurmlet.contracts.names import SANDBOX_JOBS
from slurmlet.supervisor.process import ProcessError

_MAX_RECORD = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """`kinds` are its namespaces besides the user namespace; `hints` is where this pod's user tells
    steps of containers."""

    job_id: int
    kinds: tuple[str, ...]
    hints: Path


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
