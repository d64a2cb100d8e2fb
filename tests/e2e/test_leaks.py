"""Many joins leave nothing on the node that they led to."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e import kept, pods
from tests.e2e.conftest import Lab

pytestmark = pytest.mark.disruptive
NAME = "leaks"
JOINS = int(os.environ.get("ROUNDS", "3")) * 10


@pytest.fixture(scope="module")
def pod(lab: Lab) -> Iterator[dict[str, Any]]:
    pods.delete(lab, NAME)
    script = "trap exit TERM; while :; do sleep 60 & wait; done"
    flags = {"slurmlet.io/flags": "--exclude=c2"}
    pods.create(lab, pods.manifest(NAME, "sh", "-c", script, annotations=flags))
    yield pods.wait_for_phase(lab, NAME, "Running")
    pods.delete(lab, NAME)


@pytest.mark.claim("J9")
@pytest.mark.timeout(120 + 2 * JOINS)
def test_many_short_joins_leave_nothing(lab: Lab, pod: dict[str, Any]) -> None:
    job = pods.job_id(pod)
    once = f"timeout 60 srun --k8s-pod=alice/{NAME} true"
    # What the first step starts, and what each later one uses again, is no leak.
    lab.run("ctl", ["sh", "-c", once], user="alice", timeout=90)
    before = kept.look(lab, node="c1", job=job)
    script = f"i=0; while [ $i -lt {JOINS} ]; do {once} || exit; i=$((i + 1)); done"
    lab.run("ctl", ["sh", "-c", script], user="alice", timeout=60 + 2 * JOINS)
    assert kept.wait_until_no_more(lab, before, node="c1", job=job) == {}, before
