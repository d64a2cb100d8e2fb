"""Slurm's states: nothing that squeue may print can end or fail a pod by accident."""

from hypothesis import given
from hypothesis import strategies as st

from slurmlet.kubelet.slurm.states import TABLE, Meaning, observe, remedy

# slurm_protocol_defs.c, job_state_string and job_state_string_complete.
SLURM_STATES = [
    "PENDING",
    "RUNNING",
    "SUSPENDED",
    "COMPLETED",
    "CANCELLED",
    "FAILED",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "BOOT_FAIL",
    "DEADLINE",
    "OUT_OF_MEMORY",
    "LAUNCH_FAILED",
    "UPDATE_DB",
    "REQUEUED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "RESIZING",
    "CONFIGURING",
    "COMPLETING",
    "STOPPED",
    "RECONFIG_FAIL",
    "POWER_UP_NODE",
    "REVOKED",
    "REQUEUE_FED",
    "RESV_DEL_HOLD",
    "SIGNALING",
    "STAGE_OUT",
    "EXPEDITING",
    "GETENV_FAILED",
]


def test_every_state_of_slurm_has_a_meaning() -> None:
    assert set(SLURM_STATES) <= set(TABLE)
    assert all(observe(state).known for state in SLURM_STATES)


@given(st.text())
def test_what_is_not_in_the_table_changes_nothing(text: str) -> None:
    word = (text.split() or [""])[0].rstrip("+")
    if word not in TABLE:
        seen = observe(text)
        assert seen.meaning is Meaning.UNCHANGED
        assert not seen.known


@given(st.sampled_from(sorted(TABLE)), st.text(alphabet="by0123456789", max_size=10))
def test_what_sacct_appends_is_ignored(state: str, rest: str) -> None:
    assert observe(f"{state} {rest}") == observe(state)
    assert observe(f"{state}+") == observe(state)


def test_only_completed_succeeds_without_a_report() -> None:
    assert [state for state in TABLE if observe(state).succeeded] == ["COMPLETED"]


def test_completing_is_not_the_end() -> None:
    assert observe("COMPLETING").meaning is Meaning.UNCHANGED


def test_the_site_s_doing_is_a_disruption() -> None:
    disrupted = {state for state in SLURM_STATES if observe(state).disrupted}
    assert disrupted == {"NODE_FAIL", "BOOT_FAIL", "PREEMPTED"}


def test_hopeless_reasons() -> None:
    assert "slurmlet.io/time" in remedy("PartitionTimeLimit")
    assert "slurmlet.io/constraint" in remedy("(BadConstraints)")
    assert remedy("Resources") == ""
    assert remedy("") == ""
