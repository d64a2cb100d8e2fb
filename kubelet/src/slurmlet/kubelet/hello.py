"""Whether a supervisor that says hello may have the pod (docs/architecture.md, Hello). Pure."""

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from slurmlet.contracts.podproto import Hello, token
from slurmlet.kubelet.slurm.query import JobFacts
from slurmlet.kubelet.slurm.states import Meaning, observe

MAX_ATTEMPTS = 100
"""Attempts whose tokens are tried: the newest, or the first of a pod that is not known (any more).
The count stands on the pod, where its author can write."""


class Verdict(Enum):
    """ACCEPT; LATER: not to be decided now; REFUSE: not ours; DUPLICATE: ours, but another job has
    the pod."""

    ACCEPT = "accept"
    LATER = "later"
    REFUSE = "refuse"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    verdict: Verdict
    reason: str = ""
    attempt: int = 0


def authentic(
    hello: Hello,
    *,
    bearer: str,
    uid: str,
    key: bytes,
    job: JobFacts | None,
    users: Collection[str],
    peer: str,
    addresses: Collection[str],
    attempts: int,
) -> Answer:
    """Whether the peer is the supervisor of a job that we submitted for this pod UID.

    `job` is what slurmctld says now, `users` the names of its uid, `addresses` those of its node,
    `attempts` the number of submissions that are known of.
    """
    if job is None:
        return Answer(verdict=Verdict.REFUSE, reason="Slurm does not know this job")
    attempt = attempt_of(bearer, uid=uid, key=key, users=users, attempts=attempts)
    if attempt is None:
        return Answer(verdict=Verdict.REFUSE, reason="wrong token")
    seen = observe(job.state)
    held = seen.meaning is Meaning.UNCHANGED and (seen.reason or not seen.known)
    if seen.meaning is Meaning.WAITING or held:
        # The batch script may start while slurmctld still says CONFIGURING.
        return Answer(verdict=Verdict.LATER, reason=f"the job is {job.state}")
    if seen.meaning is Meaning.ENDED:
        return Answer(verdict=Verdict.REFUSE, reason=f"the job is {job.state}")
    if job.nodes != hello.host:
        return Answer(verdict=Verdict.REFUSE, reason=f"the job runs on {job.nodes}")
    if peer not in addresses:
        return Answer(verdict=Verdict.REFUSE, reason=f"{peer} is no address of {job.nodes}")
    return Answer(verdict=Verdict.ACCEPT, attempt=attempt)


def attempt_of(
    bearer: str, *, uid: str, key: bytes, users: Collection[str], attempts: int
) -> int | None:
    """The attempt at a pod whose token this is; None if it is of none of these users'."""
    newest = max(attempts, 1)
    return next(
        (
            number
            for number in range(newest, max(newest - MAX_ATTEMPTS, 0) - 1, -1)
            for user in users
            if hmac.compare_digest(bearer, token(key=key, uid=uid, attempt=number, user=user))
        ),
        None,
    )


def claim(hello: Hello, *, known_job: int | None, finished: bool) -> Answer:
    """Whether an authentic supervisor is the one that runs the pod; the first valid hello wins.

    Once the pod has ended, only who ran it is still heard.
    """
    if finished and not (hello.planned and known_job == hello.job_id):
        return Answer(verdict=Verdict.DUPLICATE, reason="the pod has ended")
    if known_job is not None and known_job != hello.job_id:
        return Answer(verdict=Verdict.DUPLICATE, reason=f"job {known_job} has the pod")
    return Answer(verdict=Verdict.ACCEPT)
