"""Pods, squeue and sacct: every disagreement is found, and agreement is not called one."""

import re
from typing import Any

import pytest

from slurmlab.agreement import JOB_ID, Job, disagreements, parse

USERS = {"alice": "alice", "bob": "bob"}
UID = "0123abcd-1111-2222-3333-444455556666"


def pod(*, job: str | None = "7", uid: str = UID) -> dict[str, Any]:
    annotations = {JOB_ID: job} if job else {}
    return {
        "metadata": {"namespace": "alice", "name": "web", "uid": uid, "annotations": annotations}
    }


def job(
    number: str = "7",
    *,
    user: str = "alice",
    state: str = "RUNNING",
    name: str = "0123abcd/alice/web",
) -> Job:
    return Job(number=number, user=user, state=state, name=name)


def found(*, pods: list[dict[str, Any]], queue: list[Job], accounting: list[Job]) -> list[str]:
    return disagreements(pods=pods, queue=queue, accounting=accounting, users=USERS)


def test_one_story_has_no_disagreement() -> None:
    other = job("8", user="bob", name="a job of bob")
    assert found(pods=[pod()], queue=[job(), other], accounting=[job(), other]) == []
    assert found(pods=[pod(job=None)], queue=[], accounting=[]) == [], "not submitted yet"
    forged = job("8", user="bob")
    assert found(pods=[pod()], queue=[job(), forged], accounting=[job(), forged]) == [], "bob's own"
    ended = job(state="COMPLETED")
    assert found(pods=[], queue=[ended], accounting=[ended]) == [], "a deleted pod's ended job"


@pytest.mark.parametrize(
    ("pods", "queue", "accounting", "said"),
    [
        ([pod()], [], [job(), job("9")], "pod 0123abcd has 2 live jobs in sacct: 7, 9"),
        ([pod()], [], [job(user="root")], "belongs to root, not to alice"),
        ([pod()], [], [job(user="bob")], "pod alice/web names job 7, sacct has none"),
        ([pod()], [job()], [], "pod alice/web names job 7, sacct has none"),
        ([pod(job="6")], [job()], [job()], "pod alice/web names job 6, sacct has \\['7'\\]"),
        ([], [job()], [job()], "job 7 of alice runs for pod alice/web, which is gone"),
    ],
)
def test_each_disagreement_is_said(
    pods: list[dict[str, Any]], queue: list[Job], accounting: list[Job], said: str
) -> None:
    sentences = found(pods=pods, queue=queue, accounting=accounting)
    assert len(sentences) == 1
    assert re.search(said, sentences[0])


def test_a_job_name_cannot_forge_a_field() -> None:
    text = "7|alice|CANCELLED by 0|0123abcd/alice/web|root|x\nnot a row\n8.batch|a|b|c\n"
    assert parse(text) == [job(state="CANCELLED", name="0123abcd/alice/web|root|x")]
    assert parse(text)[0].pod is None


def test_jobs_that_slurm_refused_and_namespaces_that_are_mapped_no_more_are_no_disagreement() -> (
    None
):
    refused = [job(state="FAILED"), job("9", state="FAILED")]
    assert found(pods=[], queue=[], accounting=refused) == []
    former = Job(number="5", user="carol", state="COMPLETED", name="4567abcd/gone/it")
    assert found(pods=[], queue=[], accounting=[former]) == []
