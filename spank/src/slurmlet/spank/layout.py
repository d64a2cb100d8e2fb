"""Where a sandbox is on a compute node (docs/contracts.md, Names)."""

from collections.abc import Iterator
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
    def network(self) -> Path:
        """Root's own notes: what must be undone of its network."""
        return self.root / "network.json"

    @property
    def tombstone(self) -> Path:
        """Is there from the beginning of the removal on."""
        return self.root / "removed"


def sandbox_of(job: int, *, jobs: Path = JOBS) -> Sandbox:
    return Sandbox(jobs / str(job))


def sandboxes(jobs: Path = JOBS) -> Iterator[Sandbox]:
    try:
        names = sorted(path.name for path in jobs.iterdir())
    except FileNotFoundError:
        return
    yield from (Sandbox(jobs / name) for name in names if name.isdecimal())
