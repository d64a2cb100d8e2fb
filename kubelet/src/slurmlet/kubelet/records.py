"""What the agent remembers of its pods. All of it can be found again after a restart."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from slurmlet.contracts.names import ATTEMPT_ANNOTATION, JOB_ID_ANNOTATION
from slurmlet.contracts.podproto import FromAgent, Status, Update
from slurmlet.kubelet.pending import Changes
from slurmlet.kubelet.slurm.query import JobFacts
from slurmlet.kubelet.slurm.reasontable import Reason


class Session(Protocol):
    """A supervisor that is connected; `told` is the last that it was told of Services."""

    told: Update | None

    @property
    def token(self) -> str: ...

    @property
    def peer(self) -> str: ...

    async def send(self, message: FromAgent) -> None: ...


@dataclass(slots=True, kw_only=True)
class Record:
    """A pod by UID. Times are of time.monotonic().

    `job_id` is None until a job is known, `over` says that it ended or that there never was one.
    `facts` is what was last heard of it. `ip` is the pod's address and `host_ip` its node's, both
    empty until a supervisor was believed. `complaints` are what the pod's author was told of
    Services. `waiting` and `refused` are what to show while there is no job; `retry_at` and
    `failures` space out submissions. `unsettled` says that a submission may be on its way: an
    earlier agent's, or one without an answer. `stopped_for` is the deletionTimestamp for which a
    session (by id) was told to stop, `cancelled_at` when scancel was last asked for. `warned` are
    reasons of jobs that no waiting helps and that an event was made for, `changes` spaces out what
    the pod says of a job that waits.
    """

    uid: str
    namespace: str
    name: str
    user: str = ""
    attempt: int = 0
    job_id: int | None = None
    facts: JobFacts | None = None
    ip: str = ""
    host_ip: str = ""
    report: Status | None = None
    session: Session | None = None
    waiting: tuple[str, str] = ("ContainerCreating", "")
    refused: bool = False
    retry_at: float = 0.0
    failures: int = 0
    unsettled: bool = False
    deletion_seen: float | None = None
    stopped_for: tuple[str, int] | None = None
    cancelled_at: float | None = None
    ended_at: float | None = None
    final_at: float | None = None
    complaints: frozenset[str] = frozenset()
    warned: frozenset[tuple[int, Reason]] = frozenset()
    changes: Changes = field(default_factory=Changes)
    over: bool = False

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def report_is_final(self) -> bool:
        return self.report is not None and self.report.final


def job_counts(records: Iterable[Record]) -> dict[str, int]:
    """How many live jobs there are, by Slurm's word for their state in lower case."""
    facts = [record.facts for record in records if record.job_id is not None and not record.over]
    words = [job.state.split(maxsplit=1)[0] for job in facts if job and job.state.strip()]
    return dict(Counter(word.rstrip("+").lower() for word in words))


class Records:
    """Records by UID, and by job. `journalled` are jobs of pods (UIDs) from before a restart."""

    def __init__(self, *, journalled: Mapping[int, str] | None = None) -> None:
        self._by_uid: dict[str, Record] = {}
        self._journalled = dict(journalled or {})

    def of(self, pod: Mapping[str, Any]) -> Record:
        """The record of a pod, made from what is written on the pod if it is new here."""
        metadata = pod["metadata"]
        annotations = metadata.get("annotations") or {}
        record = self._by_uid.get(metadata["uid"])
        if record is None:
            record = Record(
                uid=metadata["uid"],
                namespace=metadata["namespace"],
                name=metadata["name"],
                unsettled=ATTEMPT_ANNOTATION in annotations,
            )
            self._by_uid[record.uid] = record
        if record.job_id is None:
            record.job_id = self._believed(record, _number(annotations.get(JOB_ID_ANNOTATION)))
        record.attempt = max(record.attempt, _number(annotations.get(ATTEMPT_ANNOTATION)))
        return record

    def _believed(self, record: Record, job_id: int) -> int | None:
        """What is written on a pod, where its author can write, takes no job away from another."""
        if not job_id or self._journalled.get(job_id, record.uid) != record.uid:
            return None
        return job_id if self.owner(job_id) in (None, record) else None

    def get(self, uid: str) -> Record | None:
        return self._by_uid.get(uid)

    def drop(self, uid: str) -> None:
        self._by_uid.pop(uid, None)

    def owner(self, job_id: int) -> Record | None:
        """The record that claims a job."""
        for record in self._by_uid.values():
            if record.job_id == job_id:
                return record
        return None

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._by_uid.values()))

    def __len__(self) -> int:
        return len(self._by_uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What must be known to cancel the job of a pod that vanished while the agent was away. `node`
    is the virtual node that the pod was on, empty if nobody knows."""

    uid: str
    namespace: str
    name: str
    job_id: int
    node: str = ""


class Journal:
    """One small file per live job, in a directory of the agent alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, entry: Entry) -> None:
        """Raises OSError when the disk does not take it."""
        path = self._directory / f"{entry.uid}.json"
        new = path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(asdict(entry), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def remove(self, uid: str) -> None:
        (self._directory / f"{uid}.json").unlink(missing_ok=True)

    def find(self, uid: str, job_id: int) -> Entry | None:
        """The entry of a pod, if it is about this job."""
        entry = _read(self._directory / f"{uid}.json")
        return entry if entry and entry.job_id == job_id else None

    def entries(self) -> list[Entry]:
        """All entries; what cannot be read is left out."""
        found = map(_read, sorted(self._directory.glob("*.json")))
        return [entry for entry in found if entry]


def _read(path: Path) -> Entry | None:
    try:
        return Entry(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _number(text: object) -> int:
    # The pod's author can write there: no more digits than jobs and attempts have.
    if not isinstance(text, str) or len(text) > 10 or not (text.isascii() and text.isdecimal()):
        return 0
    return int(text)
