"""What a pod says while its job waits: Slurm's reason, and when Slurm expects to start it. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slurmlet.contracts.names import REQUEST_ANNOTATION
from slurmlet.kubelet.slurm.query import LAST_START, JobFacts
from slurmlet.kubelet.slurm.reasons import explain, reason_of
from slurmlet.kubelet.slurm.reasontable import Reason
from slurmlet.kubelet.slurm.states import observe

MOVED_SECONDS = 300
"""By how much an expected start must move before the pod is written again: with each round of
scheduling, every half minute, Slurm moves those of all jobs by seconds, and each write of each pod
is one more version in etcd."""
MOVED_SHARE = 0.1
"""The same as a share of what is left to wait: a start in a week is no matter of minutes."""

CHANGE_SECONDS = 300.0
"""Between two writes of a pod for nothing but other words, in the long run: Slurm's two schedulers
take turns, and each may give a job another reason, every half minute."""
CHANGE_BURST = 6
"""So many of these writes may follow each other at once after a quiet time."""

_EXPECTED = " Slurm expects it to start at "
_NO_WORD = "None"
"""What Slurm says where it has no reason yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A job that waits. `why` is Slurm's reason in both kinds of words, `reason` what is known of
    it here; `start` is when Slurm expects to start the job, in seconds since the epoch and a full
    minute, if the pod says so."""

    message: str
    why: str = ""
    reason: Reason | None = None
    start: int | None = None


@dataclass(slots=True)
class Changes:
    """Spaces out the writes of one pod; `paid_until` is of time.monotonic()."""

    paid_until: float = 0.0

    def delay(self, now: float) -> float:
        """Seconds until the pod may be written; 0 counts as a write."""
        wait = self.paid_until - now - (CHANGE_BURST - 1) * CHANGE_SECONDS
        if wait > 0:
            return wait
        self.paid_until = max(self.paid_until, now) + CHANGE_SECONDS
        return 0.0


def only_words(patch: Mapping[str, Any]) -> bool:
    """Whether a patch of a pod whose job is `queued` changes nothing but what containers say."""
    status = patch.get("status") or {}
    return "annotations" not in patch["metadata"] and status.keys() <= {
        "containerStatuses",
        "initContainerStatuses",
    }


def wait_of(pod: Mapping[str, Any], job: JobFacts, *, now: float) -> Wait:
    """Why the job of a pod, which is `queued`, waits at the time `now`."""
    if observe(job.state).reason == "NodeBooting":
        return Wait(message=f"Slurm job {job.job_id} has its nodes, and Slurm prepares them")
    said = job.reason or _NO_WORD
    reason = reason_of(said)
    why = explain(said, asked=_asked(pod))
    message = f"Slurm job {job.job_id} waits: {why}"
    # Of a job that is held squeue shows when it may begin, which says nothing.
    start = None if reason and reason.lasting else _start(pod, job, message=message, now=now)
    if start is not None:
        message += f".{_EXPECTED}{_text(start)}"
    return Wait(message=message, why=why, reason=reason, start=start)


def says(pod: Mapping[str, Any], message: str) -> bool:
    """Whether a container of the pod, as it is now, waits with this message."""
    return any(told == message for told in _messages(pod))


def _start(pod: Mapping[str, Any], job: JobFacts, *, message: str, now: float) -> int | None:
    told = _told(pod, message)
    fresh = -(-job.started // 60) * 60 if job.started and now < job.started <= LAST_START else None
    if told is None or told <= now:
        return fresh
    # Slurm forgets all starts when it begins to estimate anew.
    bound = max(MOVED_SECONDS, MOVED_SHARE * (told - now))
    return told if fresh is None or abs(fresh - told) < bound else fresh


def _told(pod: Mapping[str, Any], message: str) -> int | None:
    """The start that the pod says now, if all else that it says is this message."""
    before = f"{message}.{_EXPECTED}"
    for told in _messages(pod):
        if told.startswith(before):
            try:
                return int(datetime.fromisoformat(told.removeprefix(before)).timestamp())
            except (ValueError, OverflowError):
                return None
    return None


def _messages(pod: Mapping[str, Any]) -> list[str]:
    status = pod.get("status") or {}
    items = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waiting = ((item.get("state") or {}).get("waiting") or {} for item in items)
    return [item.get("message") or "" for item in waiting]


def _asked(pod: Mapping[str, Any]) -> Mapping[str, str]:
    """What the pod's job was submitted with, as the pod has it; it is shown and no more."""
    text = (pod["metadata"].get("annotations") or {}).get(REQUEST_ANNOTATION) or "{}"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _text(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
