"""Do pods, squeue and sacct tell one story? A pod's jobs are owned by its user, none by root.

Pure: it compares what verify.py has read.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

JOB_ID = "status.slurmlet.io/job-id"
LIVE = frozenset({"PENDING", "RUNNING", "CONFIGURING", "SUSPENDED"})
_POD_JOB = re.compile(r"(?P<uid>[0-9a-f]{8})/(?P<pod>[a-z0-9-]+/[a-z0-9.-]+)")


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as squeue or sacct shows it."""

    number: str
    user: str
    state: str
    name: str

    @property
    def pod(self) -> tuple[str, str] | None:
        """First eight digits of the pod's UID, and namespace/name; None for other jobs."""
        found = _POD_JOB.fullmatch(self.name)
        return (found["uid"], found["pod"]) if found else None


def parse(text: str) -> list[Job]:
    """Parse lines of `ID|USER|STATE|NAME`; the name comes last because users choose it."""
    rows = (line.split("|", 3) for line in text.splitlines())
    return [
        Job(number=row[0], user=row[1], state=row[2].split()[0] if row[2] else "", name=row[3])
        for row in rows
        if len(row) == 4 and row[0].isdigit()
    ]


def disagreements(
    *,
    pods: Iterable[Mapping[str, Any]],
    queue: Iterable[Job],
    accounting: Iterable[Job],
    users: Mapping[str, str],
) -> list[str]:
    """Return one sentence per disagreement.

    `users` is the identity map, namespace to Unix user. Rules: a pod has one live job at most;
    one that it names is in accounting, too, under its own UID; a pod's job belongs to its
    namespace's user, and where that has none any more, not to root; every live job of a pod has
    its pod. People may call their own jobs what they like: what one of them called like another's
    pod is none of the pod's. That one job alone had the pod's plan is for witness.py: what Slurm
    refuses leaves jobs behind, too.
    """
    found: list[str] = []
    recorded: dict[str, list[Job]] = defaultdict(list)
    for job in accounting:
        if job.pod and not _is_strangers(job, users):
            recorded[job.pod[0]].append(job)
    for uid, jobs in recorded.items():
        live = [job.number for job in jobs if job.state in LIVE]
        if len(live) > 1:
            found.append(f"pod {uid} has {len(live)} live jobs in sacct: {', '.join(live)}")
        found += [_owner(job, users) for job in jobs if _owner(job, users)]
    known: set[str] = set()
    for pod in pods:
        meta = pod["metadata"]
        title = f"{meta['namespace']}/{meta['name']}"
        known.add(meta["uid"][:8])
        number = (meta.get("annotations") or {}).get(JOB_ID)
        if number is None:
            continue
        numbers = [job.number for job in recorded[meta["uid"][:8]]]
        if number not in numbers:
            found.append(f"pod {title} names job {number}, sacct has {numbers or 'none'} for it")
    for job in queue:
        if _is_strangers(job, users):
            continue
        if job.pod and job.state in LIVE and job.pod[0] not in known:
            found.append(f"job {job.number} of {job.user} runs for pod {job.pod[1]}, which is gone")
    return found


def _wanted(job: Job, users: Mapping[str, str]) -> str | None:
    namespace = job.pod[1].split("/")[0] if job.pod else ""
    return users.get(namespace)


def _is_strangers(job: Job, users: Mapping[str, str]) -> bool:
    return job.user in users.values() and job.user != _wanted(job, users)


def _owner(job: Job, users: Mapping[str, str]) -> str:
    wanted = _wanted(job, users)
    if job.user == wanted or (wanted is None and job.user not in ("", "root")):
        return ""
    return f"job {job.number} ({job.name}) belongs to {job.user or '?'}, not to {wanted}"
