"""Where a sandbox is on a compute node (docs/contracts.md, Names)."""

from dataclasses import dataclass
from pathlib import Path

JOBS = Path("/run/slurmlet/jobs")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The directory of one job's sandbox; all of it is root's but what is mounted on `pod`."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "record.json"

    @property
    def signed(self) -> Path:
        return self.root / "record.munge"

    @property
    def namespaces(self) -> Path:
        return self.root / "ns"

    @property
    def pod(self) -> Path:
        return self.root / "pod"

    @property
    def tombstone(self) -> Path:
        """Is there from the beginning of the removal on."""
        return self.root / "removed"


def sandbox_of(job: int, *, jobs: Path = JOBS) -> Sandbox:
    return Sandbox(jobs / str(job))
