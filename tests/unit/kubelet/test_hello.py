"""Who may have a pod: only the job that we submitted for it, on its node, with its token."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.kubelet.fakes import UID

from slurmlet.contracts.podproto import Hello, token
from slurmlet.kubelet.hello import Verdict, authentic, claim
from slurmlet.kubelet.slurm.query import JobFacts

KEY = b"k" * 32
JOB = JobFacts(job_id=7, state="RUNNING", uid=2001, nodes="c1")
HELLO = Hello(job_id=7, host="c1")


def verdict(**changes: Any) -> Verdict:
    arguments: dict[str, Any] = {
        "bearer": token(key=KEY, uid=UID, attempt=2, user="alice"),
        "uid": UID,
        "key": KEY,
        "job": JOB,
        "users": {"alice"},
        "peer": "10.77.0.11",
        "addresses": {"10.77.0.11"},
        "attempts": 3,
    }
    return authentic(HELLO, **(arguments | changes)).verdict


def test_the_pod_s_own_job_is_accepted() -> None:
    assert verdict() is Verdict.ACCEPT


@pytest.mark.parametrize(
    "changes",
    [
        {"job": None},
        {"users": {"bob"}},
        {"users": set()},
        {"key": b"x" * 32},
        {"uid": UID.replace("1", "9")},
        {"attempts": 1},
        {"peer": "10.77.0.12"},
        {"job": replace(JOB, nodes="c2")},
        {"job": replace(JOB, state="COMPLETED")},
        {"job": replace(JOB, state="CANCELLED")},
    ],
)
def test_anything_else_is_refused(changes: dict[str, Any]) -> None:
    assert verdict(**changes) is Verdict.REFUSE


def test_a_forged_count_of_attempts_costs_no_time() -> None:
    """The count stands in an annotation that the pod's author can write."""
    bearer = token(key=KEY, uid=UID, attempt=10**9, user="alice")
    assert verdict(attempts=10**9, bearer=bearer) is Verdict.ACCEPT
    assert verdict(attempts=10**9) is Verdict.REFUSE


@pytest.mark.parametrize("state", ["CONFIGURING", "PENDING", "REQUEUE_HOLD", "NEW_STATE"])
def test_what_slurm_has_not_decided_is_tried_again(state: str) -> None:
    assert verdict(job=replace(JOB, state=state)) is Verdict.LATER


@pytest.mark.parametrize("state", ["COMPLETING", "SIGNALING", "SUSPENDED"])
def test_last_words_are_heard(state: str) -> None:
    assert verdict(job=replace(JOB, state=state)) is Verdict.ACCEPT


def test_the_first_job_keeps_the_pod() -> None:
    assert claim(HELLO, known_job=None, finished=False).verdict is Verdict.ACCEPT
    assert claim(HELLO, known_job=7, finished=False).verdict is Verdict.ACCEPT
    assert claim(HELLO, known_job=6, finished=False).verdict is Verdict.DUPLICATE
    assert claim(HELLO, known_job=None, finished=True).verdict is Verdict.DUPLICATE


def test_of_a_pod_that_has_ended_only_who_ran_it_is_heard() -> None:
    ran = replace(HELLO, planned=True)
    assert claim(ran, known_job=7, finished=True).verdict is Verdict.ACCEPT
    assert claim(ran, known_job=6, finished=True).verdict is Verdict.DUPLICATE
    # The same job, but started again by Slurm.
    assert claim(HELLO, known_job=7, finished=True).verdict is Verdict.DUPLICATE
