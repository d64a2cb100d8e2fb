"""Slurm's states: nothing that squeue may print can end or fail a pod by accident."""

from hypothesis import given
from hypothesis import strategies as st

from slurmlet.kubelet.slurm.states import REQUEUED, TABLE, Meaning, observe

# slurm_protocol_defs.c, job_state_string and job_state_string_complete. What squeue prints was read
# from libslurmfull of both releases, for each base state and each single flag.
BASES = [
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
]
FLAGS_24_11 = [
    "REQUEUED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "RESIZING",
    "CONFIGURING",
    "COMPLETING",
    "STOPPED",
    "REVOKED",
    "REQUEUE_FED",
    "RESV_DEL_HOLD",
    "SIGNALING",
    "STAGE_OUT",
]
FLAGS_26_05 = [*FLAGS_24_11, "EXPEDITING"]
# Printed by job_state_string_complete only, which sacct and slurmrestd may use.
FLAGS_OF_OTHERS = [
    "LAUNCH_FAILED",
    "GETENV_FAILED",
    "RECONFIG_FAIL",
    "UPDATE_DB",
    "POWER_UP_NODE",
]
SLURM_STATES = [*BASES, *FLAGS_26_05, *FLAGS_OF_OTHERS]


def test_every_state_of_slurm_has_a_meaning() -> None:
    assert {*SLURM_STATES, "LOST"} == set(TABLE)
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
    assert REQUEUED.disrupted
    assert disrupted == {"NODE_FAIL", "BOOT_FAIL", "PREEMPTED"}


def test_a_flag_over_a_running_job_ends_nothing() -> None:
    """squeue prints one word for base state and flags, and a flag covers the base state."""
    endings = {"REVOKED", "LAUNCH_FAILED", "GETENV_FAILED", "RECONFIG_FAIL"}
    flags = {*FLAGS_26_05, *FLAGS_OF_OTHERS} - endings
    assert all(observe(flag).meaning is not Meaning.ENDED for flag in flags)


def test_what_waits_for_slurm() -> None:
    """Neither what runs nor what ended, but also what is held after a requeue."""
    queued = {state for state in SLURM_STATES if observe(state).queued}
    booting = {"CONFIGURING", "POWER_UP_NODE"}
    assert queued == {"PENDING", *booting, "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
