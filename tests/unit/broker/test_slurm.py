"""What is made of sbatch's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.broker.slurm import MAX_MESSAGE, passing, sentence, submitted
from slurmlet.contracts.brokerproto import Answer

FAILED = "sbatch: error: Batch job submission failed: "


@pytest.mark.parametrize(
    ("stderr", "error", "retry"),
    [
        (
            "sbatch: error: invalid partition specified: nope\n"
            + FAILED
            + "Invalid partition name specified\n",
            "invalid partition specified: nope; Invalid partition name specified",
            False,
        ),
        (
            FAILED + "Requested node configuration is not available",
            "Requested node configuration is not available",
            False,
        ),
        (
            FAILED + "Invalid account or account/partition combination specified",
            "Invalid account or account/partition combination specified",
            False,
        ),
        (
            FAILED + "Unable to contact slurm controller (connect failure)",
            "Unable to contact slurm controller (connect failure)",
            True,
        ),
        (
            FAILED + "Socket timed out on send/recv operation",
            "Socket timed out on send/recv operation",
            True,
        ),
        (
            FAILED + "Protocol authentication error",
            "Protocol authentication error",
            True,
        ),
        (
            FAILED + "Job violates accounting/QOS policy (job submit limit, user's size and/or"
            " time limits)",
            "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            True,
        ),
        ("sbatch: unrecognized option '--nope'", "unrecognized option '--nope'", False),
        ("", "sbatch ended with code 1", True),
    ],
)
def test_refusals(stderr: str, error: str, retry: bool) -> None:
    reply = submitted(code=1, stdout="", stderr=stderr, secret="5" * 64)
    assert reply == Answer(error=error, retry=retry)


@pytest.mark.parametrize("stdout", ["12\n", "12;lab\n", "Welcome!\n12;lab-2.x\n"])
def test_job_ids(stdout: str) -> None:
    assert submitted(code=0, stdout=stdout, stderr="", secret="x").job_id == 12


@pytest.mark.parametrize("stdout", ["", "\n", "12\nbye\n", "-12\n", "12;a b\n", "Submitted 12"])
def test_an_unclear_success_is_no_success(stdout: str) -> None:
    reply = submitted(code=0, stdout=stdout, stderr="", secret="x")
    assert reply.job_id is None
    assert reply.retry


@given(st.text())
def test_any_complaint_becomes_one_printable_bounded_line(stderr: str) -> None:
    text = sentence(stderr)
    assert text.isprintable()
    assert len(text) <= MAX_MESSAGE
    assert passing(text) in (True, False)
