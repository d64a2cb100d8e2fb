"""Which job ran which pod, and whether any pod had two (docs/contracts.md, Audit). Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slurmlet.contracts.audit import BYE, CANCEL, PLAN, SUBMIT, Act

_KILLED = frozenset(
    [
        "CANCELLED",
        "TIMEOUT",
        "DEADLINE",
        "PREEMPTED",
        "NODE_FAIL",
        "BOOT_FAIL",
        "FAILED",
        "OUT_OF_MEMORY",
        "REVOKED",
    ]
)
"""Ends of a job whose supervisor may never have been heard."""
_LIVE = frozenset(["PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "RESIZING"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A job in the accounting. `ran` says that it was given a node and started there."""

    job: int
    uid: int
    user: str
    state: str
    ran: bool


@dataclass(slots=True, kw_only=True)
class Job:
    """A job and what was done with it; `row` is None where the accounting has none."""

    job: int
    row: Row | None = None
    planned: bool = False
    dismissed: str | None = None
    cancelled: bool = False
    users: set[str] = field(default_factory=set)

    @property
    def what(self) -> str:
        """What became of it, in a word or two."""
        if self.planned:
            return "ran the pod"
        if self.dismissed is not None:
            return f"sent away: {self.dismissed}"
        if self.row and not self.row.ran:
            return "never started"
        return "cancelled before it had the pod" if self.cancelled else "never had the pod"


@dataclass(slots=True, kw_only=True)
class Pod:
    uid: str
    pod: str = ""
    jobs: dict[int, Job] = field(default_factory=dict)


def pods(acts: Iterable[Act], rows: Mapping[int, Row]) -> list[Pod]:
    """The pods that the acts are about, each with its jobs, in the order of their first act."""
    found: dict[str, Pod] = {}
    jobs: dict[int, Job] = {}
    cancelled = set()
    for act in acts:
        if act.what == CANCEL:
            cancelled.add(act.job)
        if act.what not in (SUBMIT, PLAN, BYE):
            continue
        pod = found.setdefault(act.uid, Pod(uid=act.uid, pod=act.pod))
        job = pod.jobs.setdefault(act.job, Job(job=act.job, row=rows.get(act.job)))
        jobs[act.job] = job
        job.planned |= act.what == PLAN
        job.users |= {act.user} - {""}
        if act.what == BYE:
            job.dismissed = act.reason
    for number in cancelled & jobs.keys():
        jobs[number].cancelled = True
    return list(found.values())


def judge(found: Sequence[Pod], *, roots: Iterable[int] = ()) -> list[str]:
    """A sentence for each thing that must not be: `roots` are jobs of root that are called as a
    pod's."""
    owners: dict[int, list[str]] = defaultdict(list)
    said = [f"job {job} of root is called like a pod's" for job in roots]
    for pod in found:
        title = f"pod {pod.pod} ({pod.uid})"
        planned = [job.job for job in pod.jobs.values() if job.planned]
        if len(planned) > 1:
            numbers = ", ".join(str(job) for job in planned)
            said.append(f"{title}: {len(planned)} jobs were given its plan: {numbers}")
        for job in pod.jobs.values():
            owners[job.job].append(title)
            said += [f"{title}: job {job.job} {wrong}" for wrong in _wrong(job, bool(planned))]
    said += [
        f"job {job} had several pods: {', '.join(titles)}"
        for job, titles in owners.items()
        if len(titles) > 1
    ]
    return said


def table(found: Sequence[Pod]) -> list[str]:
    """A line for each job, under a heading."""
    lines = [("POD", "UID", "JOB", "USER", "STATE", "WHAT BECAME OF IT")]
    lines += [
        (
            pod.pod,
            pod.uid,
            str(job.job),
            job.row.user if job.row else "?",
            job.row.state if job.row else "?",
            job.what,
        )
        for pod in found
        for job in pod.jobs.values()
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def plain(found: Sequence[Pod]) -> list[dict[str, Any]]:
    """The same as data for JSON."""
    return [
        {
            "pod": pod.pod,
            "uid": pod.uid,
            "jobs": [
                {
                    "job": job.job,
                    "user": job.row.user if job.row else None,
                    "state": job.row.state if job.row else None,
                    "ran": job.row.ran if job.row else None,
                    "planned": job.planned,
                    "dismissed": job.dismissed,
                    "cancelled": job.cancelled,
                }
                for job in pod.jobs.values()
            ],
        }
        for pod in found
    ]


def _wrong(job: Job, elsewhere: bool) -> list[str]:
    """What is wrong with one job; `elsewhere` says that its pod's plan went to a job."""
    row = job.row
    if row is None:
        return ["is unknown to the accounting"]
    said = []
    if row.uid == 0:
        said.append("ran as root")
    if job.users - {row.user}:
        said.append(f"belongs to {row.user}, not to {', '.join(sorted(job.users))}")
    if job.planned or job.dismissed is not None or not row.ran or row.state in _LIVE:
        return said
    if elsewhere and not job.cancelled:
        said.append(f"ran beside another, and was neither sent away nor cancelled: {row.state}")
    elif row.state not in _KILLED and not job.cancelled:
        said.append(f"ended without a plan as {row.state}")
    return said
