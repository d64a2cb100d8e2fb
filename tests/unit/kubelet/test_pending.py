"""What a pod says while its job waits, and how seldom that changes."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kubelet.fakes import merged, pod

from slurmlet.kubelet.pending import MOVED_SECONDS, says, wait_of
from slurmlet.kubelet.podstatus import Known, patch_for, timestamp, wanted
from slurmlet.kubelet.slurm.query import JobFacts

NOW = 1_767_225_600
JOB = JobFacts(job_id=7, state="PENDING", uid=1001, reason="Priority")


def main(live: Any) -> Any:
    return live["status"]["containerStatuses"][0]["state"]["waiting"]


def seen(live: Any, job: JobFacts, *, now: float = NOW) -> tuple[Any, bool]:
    """The pod after the agent's look at it, and whether that wrote anything."""
    patch = patch_for(live, wanted(live, Known(job=job), now=timestamp(now)), {})
    return (merged(live, patch), True) if patch else (live, False)


def start_of(live: Any) -> str:
    message: str = main(live)["message"]
    _, _, start = message.partition(". Slurm expects it to start at ")
    return start


@pytest.mark.claim("Q7")
def test_the_expected_start_is_told_as_a_full_minute() -> None:
    live, _ = seen(pod(), replace(JOB, started=NOW + 3601))
    assert start_of(live) == "2026-01-01T01:01:00Z"
    assert main(live)["message"].startswith("Slurm job 7 waits: Priority: jobs with a higher")


@pytest.mark.claim("Q7")
def test_a_start_that_moves_by_seconds_writes_nothing() -> None:
    live, _ = seen(pod(), replace(JOB, started=NOW + 1800))
    for seconds in (1799, 1801, 1860, 1800 + MOVED_SECONDS - 60, 1800 - MOVED_SECONDS + 60):
        live, wrote = seen(live, replace(JOB, started=NOW + seconds))
        assert not wrote, seconds
    live, wrote = seen(live, replace(JOB, started=NOW + 1800 + MOVED_SECONDS))
    assert wrote
    live, wrote = seen(live, replace(JOB, started=NOW + 1800))
    assert wrote


@pytest.mark.claim("Q7")
@pytest.mark.parametrize("start", [253_402_300_741, 253_402_300_799, 2**40, 2**63, 2**70])
def test_a_start_beyond_all_dates_is_not_told(start: int) -> None:
    """sbatch --begin takes any year, and a pod without a reason would hang unseen."""
    live, _ = seen(pod(), replace(JOB, started=start, reason="BeginTime"))
    assert main(live)["message"].startswith("Slurm job 7 waits: BeginTime: ")
    assert not start_of(live)


@pytest.mark.claim("Q7")
def test_a_start_far_away_may_move_further() -> None:
    week = 7 * 24 * 3600
    live, _ = seen(pod(), replace(JOB, started=NOW + week))
    live, wrote = seen(live, replace(JOB, started=NOW + week + 6 * 3600))
    assert not wrote
    live, wrote = seen(live, replace(JOB, started=NOW + week + 24 * 3600))
    assert wrote


@pytest.mark.claim("Q7")
def test_a_start_that_slurm_estimates_anew_stays() -> None:
    """backfill.c sets all of them to zero first."""
    live, _ = seen(pod(), replace(JOB, started=NOW + 3600))
    live, wrote = seen(live, JOB)
    assert not wrote
    assert start_of(live)


@pytest.mark.claim("Q7")
def test_no_start_is_told_that_has_passed() -> None:
    live, _ = seen(pod(), replace(JOB, started=NOW + 3600))
    live, wrote = seen(live, replace(JOB, started=NOW + 3600), now=NOW + 3600)
    assert wrote
    assert start_of(live) == ""
    live, _ = seen(pod(), replace(JOB, started=NOW - 5))
    assert start_of(live) == ""


def test_another_reason_takes_no_old_start_over() -> None:
    live, _ = seen(pod(), replace(JOB, started=NOW + 3600))
    live, _ = seen(live, replace(JOB, reason="AssocMaxJobsLimit"))
    assert start_of(live) == ""


def test_what_no_waiting_helps_has_no_start() -> None:
    live, _ = seen(pod(), replace(JOB, reason="JobHeldUser", started=NOW + 3600))
    assert start_of(live) == ""


@given(st.lists(st.integers(-400, 400), min_size=1, max_size=50))
def test_small_moves_write_at_most_once_each_bound(moves: list[int]) -> None:
    """However a start jitters around any moment, it is written only when it left the bound."""
    live, _ = seen(pod(), replace(JOB, started=NOW + 1800))
    for move in moves:
        before = start_of(live)
        live, wrote = seen(live, replace(JOB, started=NOW + 1800 + move))
        assert wrote == (start_of(live) != before)
        if wrote:
            old, new = (int(_seconds(text)) for text in (before, start_of(live)))
            assert abs(old - new) >= MOVED_SECONDS


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_the_names_are_those_that_the_job_was_submitted_with() -> None:
    request = json.dumps({"qos": "fast", "partition": "gpu", "time": 5})
    made = pod(metadata={"annotations": {"status.slurmlet.io/request": request}})
    wait = wait_of(made, replace(JOB, reason="QOSMaxJobsPerUserLimit"), now=NOW)
    assert wait.message == (
        "Slurm job 7 waits: QOSMaxJobsPerUserLimit: you have as many jobs running as QOS fast"
        " allows; it starts when one of yours ends"
    )
    assert wait.reason
    assert not wait.reason.lasting
    wait = wait_of(made, replace(JOB, reason="PartitionDown"), now=NOW)
    assert "partition gpu" in wait.message


@pytest.mark.parametrize("text", ["", "[]", "{", "7", '{"qos": 7}', "[" * 100_000])
def test_a_request_that_cannot_be_read_harms_nobody(text: str) -> None:
    made = pod(metadata={"annotations": {"status.slurmlet.io/request": text}})
    wait = wait_of(made, replace(JOB, reason="InvalidQOS"), now=NOW)
    assert "its QOS does not exist" in wait.message


def test_nodes_that_are_prepared() -> None:
    live, _ = seen(pod(), replace(JOB, state="CONFIGURING", reason="Prolog", nodes="c1"))
    assert main(live) == {
        "reason": "NodeBooting",
        "message": "Slurm job 7 has its nodes, and Slurm prepares them",
    }


@pytest.mark.claim("Q5")
@pytest.mark.parametrize("state", ["RESV_DEL_HOLD", "REQUEUE_HOLD", "SPECIAL_EXIT"])
def test_a_job_that_is_held_says_why(state: str) -> None:
    live, _ = seen(pod(), replace(JOB, state=state, reason="Reservation course was deleted"))
    assert main(live)["reason"] == "SlurmHeld"
    assert "Reservation course was deleted: its reservation was deleted" in main(live)["message"]


@given(st.text(max_size=100))
def test_what_a_pod_says_of_a_start_is_read_or_not(text: str) -> None:
    said = wait_of(pod(), JOB, now=NOW).message
    message = f"{said}. Slurm expects it to start at {text}"
    made = pod(
        status={"containerStatuses": [{"name": "main", "state": {"waiting": {"message": message}}}]}
    )
    assert says(made, message)
    assert wait_of(made, JOB, now=NOW).message.startswith(said)
