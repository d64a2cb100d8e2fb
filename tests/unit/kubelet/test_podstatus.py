"""Job and report → pod status."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kubelet.fakes import merged, pod

from slurmlet.contracts.podproto import ContainerReport, ContainerState, Status
from slurmlet.kubelet.podstatus import Known, annotations_for, patch_for, wanted
from slurmlet.kubelet.slurm.query import JobFacts
from slurmlet.kubelet.slurm.states import TABLE, Meaning, observe

NOW = "2026-01-01T01:00:00Z"
RANK = {"Pending": 0, "Running": 1, "Succeeded": 2, "Failed": 2}


def job(state: str, **facts: Any) -> JobFacts:
    return JobFacts(job_id=7, state=state, uid=1001, nodes="c1", started=1_767_225_600, **facts)


def report(kind: str, *, phase: str, final: bool = False, code: int | None = None) -> Status:
    state = ContainerState(
        kind=kind,
        exit_code=code,
        started_at="2026-01-01T00:00:05.123456789Z" if kind != "waiting" else None,
        finished_at="2026-01-01T00:30:00Z" if kind == "terminated" else None,
        reason="ContainerCreating" if kind == "waiting" else None,
    )
    running = kind == "running"
    container = ContainerReport(
        name="main", init=False, state=state, ready=running, started=running
    )
    return Status(seq=1, phase=phase, containers=(container,), final=final)


def status_of(known: Known, live: Any = None) -> Any:
    return wanted(live or pod(), known, now=NOW)


def condition(status: Any, kind: str) -> Any:
    return next(item for item in status["conditions"] if item["type"] == kind)


def main_state(status: Any) -> Any:
    return status["containerStatuses"][0]["state"]


def test_a_queued_job_shows_slurm_s_reason() -> None:
    status = status_of(Known(job=job("PENDING", reason="Resources")))
    assert status["phase"] == "Pending"
    assert main_state(status) == {
        "waiting": {
            "reason": "SlurmPending",
            "message": "Slurm job 7 waits: Resources: what it asks for is not free now; it is one"
            " of the next, and starts when others end",
        }
    }
    assert "startTime" not in status
    assert condition(status, "PodScheduled")["status"] == "True"
    assert condition(status, "Ready")["status"] == "False"
    assert condition(status, "Initialized")["status"] == "True"


def test_a_job_without_supervisor_is_creating() -> None:
    status = status_of(Known(job=job("RUNNING")))
    assert status["phase"] == "Pending"
    assert main_state(status) == {"waiting": {"reason": "ContainerCreating"}}
    assert status["startTime"] == "2026-01-01T00:00:00Z"


def test_a_running_pod() -> None:
    known = Known(
        job=job("RUNNING"),
        report=report("running", phase="Running"),
        ip="10.78.1.9",
        host_ip="10.77.0.11",
    )
    status = status_of(known)
    assert status["phase"] == "Running"
    assert (status["podIP"], status["hostIP"]) == ("10.78.1.9", "10.77.0.11")
    assert status["podIPs"] == [{"ip": "10.78.1.9"}]
    assert status["hostIPs"] == [{"ip": "10.77.0.11"}]
    assert main_state(status) == {"running": {"startedAt": "2026-01-01T00:00:05Z"}}
    for kind in ("Ready", "ContainersReady", "Initialized", "PodReadyToStartContainers"):
        assert condition(status, kind)["status"] == "True", kind


def told(name: str, kind: str, *, init: bool = True, code: int | None = None) -> ContainerReport:
    reason = "PodInitializing" if kind == "waiting" else None
    return ContainerReport(
        name=name, init=init, state=ContainerState(kind=kind, exit_code=code, reason=reason)
    )


def test_after_a_failed_init_container_the_others_still_wait_for_their_turn() -> None:
    live = pod(initContainers=[{"name": name, "image": "x"} for name in "abc"])
    containers = (
        told("a", "terminated", code=0),
        told("b", "terminated", code=3),
        told("c", "waiting"),
        told("main", "waiting", init=False),
    )
    final = Status(seq=2, phase="Failed", containers=containers, final=True)
    status = status_of(Known(job=job("FAILED"), report=final), live)
    states = [item["state"] for item in status["initContainerStatuses"]]
    assert [next(iter(state)) for state in states] == ["terminated", "terminated", "waiting"]
    assert main_state(status) == {"waiting": {"reason": "PodInitializing"}}
    initialized = condition(status, "Initialized")
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
    assert initialized["message"] == "containers with incomplete status: [b c]"


def test_a_sidecar_that_starts_again_takes_no_condition_back() -> None:
    sidecar = {"name": "side", "image": "x", "restartPolicy": "Always"}
    containers = (told("side", "waiting"), told("main", "running", init=False))
    report = Status(seq=2, phase="Running", containers=containers)
    status = status_of(Known(job=job("RUNNING"), report=report), pod(initContainers=[sidecar]))
    assert condition(status, "Initialized")["status"] == "True"
    assert condition(status, "ContainersReady")["status"] == "False"


def test_containers_may_start_as_soon_as_the_supervisor_reports() -> None:
    pulling = report("waiting", phase="Pending")
    kind = "PodReadyToStartContainers"
    assert condition(status_of(Known(job=job("RUNNING"))), kind)["status"] == "False"
    now = status_of(Known(job=job("RUNNING"), report=pulling))
    assert condition(now, kind)["status"] == "True"
    ended = report("terminated", phase="Succeeded", final=True, code=0)
    assert (
        condition(status_of(Known(job=job("COMPLETED"), report=ended)), kind)["status"] == "False"
    )


def test_a_suspended_job_makes_its_pod_unready() -> None:
    status = status_of(Known(job=job("SUSPENDED"), report=report("running", phase="Running")))
    assert status["phase"] == "Running"
    assert condition(status, "Ready")["reason"] == "SlurmSuspended"


def test_readiness_gates_are_honoured() -> None:
    live = pod(readinessGates=[{"conditionType": "example.org/ready"}])
    known = Known(job=job("RUNNING"), report=report("running", phase="Running"))
    assert condition(status_of(known, live), "Ready")["reason"] == "ReadinessGatesNotReady"
    live["status"]["conditions"] = [{"type": "example.org/ready", "status": "True"}]
    assert condition(status_of(known, live), "Ready")["status"] == "True"


def test_the_final_status_wins_over_the_job() -> None:
    known = Known(
        job=job("OUT_OF_MEMORY"),
        report=report("terminated", phase="Succeeded", final=True, code=0),
    )
    status = status_of(known)
    assert status["phase"] == "Succeeded"
    assert main_state(status)["terminated"]["exitCode"] == 0
    assert condition(status, "Ready")["reason"] == "PodCompleted"


@pytest.mark.parametrize(
    ("state", "code", "reason", "disrupted"),
    [
        ("FAILED", 3, "Error", False),
        ("OUT_OF_MEMORY", 137, "OOMKilled", False),
        ("CANCELLED by 2001", 137, "SlurmCancelled", False),
        ("TIMEOUT", 137, "DeadlineExceeded", False),
        ("NODE_FAIL", 137, "NodeLost", True),
        ("PREEMPTED", 137, "Preempted", True),
    ],
)
def test_a_job_that_ended_badly(state: str, code: int, reason: str, disrupted: bool) -> None:
    exit_code = 3 if state == "FAILED" else None
    known = Known(job=job(state, exit_code=exit_code), report=report("running", phase="Running"))
    status = status_of(known)
    assert status["phase"] == "Failed"
    assert status["reason"] == reason
    terminated = main_state(status)["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (code, reason)
    assert condition(status, "Ready")["status"] == "False"
    kinds = [item["type"] for item in status["conditions"]]
    assert ("DisruptionTarget" in kinds) == disrupted


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("CANCELLED", "SlurmCancelled"),
        ("TIMEOUT", "DeadlineExceeded"),
        ("PENDING", "SlurmRequeued"),
        ("PREEMPTED", "Preempted"),
        ("FAILED", "SlurmTerminated"),
    ],
)
def test_why_slurm_ended_the_job_is_said_once_it_is_known(state: str, reason: str) -> None:
    final = report("terminated", phase="Failed", final=True, code=0)
    final = replace(final, reason="SlurmTerminated")
    live = pod()
    first = status_of(Known(job=job("COMPLETING"), report=final), live)
    assert first["reason"] == "SlurmTerminated"
    live = merged(live, {"status": first})
    second = status_of(Known(job=job(state), report=final), live)
    assert (second["phase"], second["reason"]) == ("Failed", reason)
    kinds = [item["type"] for item in second["conditions"]]
    assert ("DisruptionTarget" in kinds) == (state in ("PREEMPTED", "PENDING"))


def test_a_refused_pod_that_must_not_be_retried_fails() -> None:
    status = status_of(Known(waiting=("SlurmRejected", "no such partition"), refused=True))
    assert (status["phase"], status["reason"]) == ("Failed", "SlurmRejected")


def test_a_deleted_pod_that_never_ran_is_terminated() -> None:
    status = status_of(Known(gone=True))
    assert status["phase"] == "Failed"
    assert main_state(status)["terminated"]["reason"] == "ContainerStatusUnknown"


def test_an_agent_that_comes_back_takes_nothing_away() -> None:
    running = Known(job=job("RUNNING"), report=report("running", phase="Running"), ip="10.0.0.1")
    live = pod()
    live["status"] = merged(live["status"], status_of(running, live))
    after = Known(job=job("RUNNING"))
    assert patch_for(live, status_of(after, live), {}) is None


def test_a_patch_that_was_applied_is_not_needed_again() -> None:
    known = Known(job=job("RUNNING"), report=report("running", phase="Running"), ip="10.0.0.1")
    live = pod()
    patch = patch_for(live, status_of(known, live), annotations_for(known.job))
    assert patch is not None
    assert patch["metadata"]["uid"] == live["metadata"]["uid"]
    after = merged(live, patch)
    # What the API server itself writes for things that are not there.
    after["status"]["containerStatuses"][0]["lastState"] = {}
    after["status"]["containerStatuses"][0]["state"]["running"]["extra"] = None
    assert patch_for(after, status_of(known, after), annotations_for(known.job)) is None


def test_conditions_of_others_are_left_alone() -> None:
    live = pod(status={"phase": "Pending", "conditions": [{"type": "x/y", "status": "True"}]})
    patch = patch_for(live, status_of(Known(), live), {})
    assert patch is not None
    assert "x/y" not in [item["type"] for item in patch["status"]["conditions"]]
    assert "qosClass" not in patch["status"]


@pytest.mark.parametrize(
    ("state", "code", "shown"),
    [("FAILED", 3, 3), ("OUT_OF_MEMORY", 253, 137), ("NODE_FAIL", 1, 137), ("TIMEOUT", 143, 137)],
)
def test_only_a_job_that_failed_by_itself_has_a_code_of_the_pod(
    state: str, code: int, shown: int
) -> None:
    status = status_of(Known(job=job(state, exit_code=code)))
    assert main_state(status)["terminated"]["exitCode"] == shown


@pytest.mark.parametrize("state", ["PENDING", "CONFIGURING"])
def test_a_job_that_waits_again_has_failed_its_pod(state: str) -> None:
    """Slurm requeued it after its node died: nobody reported an end."""
    known = Known(job=job("RUNNING"), report=report("running", phase="Running"))
    live = merged(pod(), {"status": status_of(known)})
    status = status_of(Known(job=job(state, reason="BeginTime")), live)
    assert (status["phase"], status["reason"]) == ("Failed", "SlurmRequeued")
    assert status["message"] == f"Slurm job 7 is {state} (BeginTime)"
    assert condition(status, "DisruptionTarget")["reason"] == "SlurmRequeued"
    assert main_state(status)["terminated"]["exitCode"] == 137


def test_a_job_that_waits_for_its_first_start_fails_nothing() -> None:
    """Also if its pod went before, and its containers count as terminated."""
    gone = status_of(Known(job=job("PENDING"), gone=True))
    again = status_of(Known(job=job("PENDING"), gone=True), merged(pod(), {"status": gone}))
    assert "terminated" in main_state(again)
    assert all(item["type"] != "DisruptionTarget" for item in again["conditions"])
    assert "SlurmRequeued" not in str(again)


def test_a_job_is_held_only_as_long_as_it_is() -> None:
    running = report("running", phase="Running")
    status = status_of(Known(job=job("REQUEUE_HOLD"), report=running))
    assert condition(status, "slurmlet.io/Held")["reason"] == "SlurmHeld"
    assert status["phase"] == "Running"
    live = merged(pod(), {"status": status})
    status = status_of(Known(job=job("RUNNING"), report=running), live)
    assert condition(status, "slurmlet.io/Held")["status"] == "False"


STATES = st.sampled_from([*sorted(TABLE), "SOMETHING_NEW", ""])
REPORTS = st.one_of(
    st.none(),
    st.builds(
        lambda kind, phase, final: report(kind, phase=phase, final=final, code=1),
        st.sampled_from(["waiting", "running", "terminated"]),
        st.sampled_from(sorted(RANK)),
        st.booleans(),
    ),
)


@given(st.lists(st.tuples(STATES, REPORTS, st.booleans()), max_size=8))
def test_phases_never_go_back_and_ends_are_complete(
    history: list[tuple[str, Status | None, bool]],
) -> None:
    live = pod()
    for state, said, gone in history:
        known = Known(job=job(state) if state else None, report=said, gone=gone)
        before = live["status"]["phase"]
        status = status_of(known, live)
        assert RANK[status["phase"]] >= RANK[before]
        if RANK[before] == 2:
            assert status["phase"] == before
        live = merged(live, {"status": status})
        if RANK[status["phase"]] == 2 and state and observe(state).meaning is Meaning.ENDED:
            assert "terminated" in main_state(status)
            assert condition(status, "Ready")["status"] == "False"
            assert condition(status, "ContainersReady")["status"] == "False"


def test_a_job_whose_files_could_not_be_opened_says_what_that_means() -> None:
    """slurmstepd's own way to say so is RaisedSignal:53."""
    ended = job("FAILED", reason="RaisedSignal:53(Real-time signal 19)")
    status = status_of(Known(job=ended))
    assert status["phase"] == "Failed"
    assert "the home directory of its user is not there, full or not writable" in status["message"]
    assert "node c1" in status["message"]
