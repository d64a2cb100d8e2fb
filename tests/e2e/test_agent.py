"""What the agent does when pods and jobs come to odd ends."""

import json

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab

ENDED = ("", "CANCELLED", "COMPLETED", "FAILED")
SLEEPER = 'trap "exit 0" TERM; while true; do sleep 0.2; done'


def ends(lab: Lab, job: str, *, seconds: float = 60) -> None:
    pods.until(
        lambda: pods.squeue(lab, job),
        lambda state: state in ENDED,
        seconds=seconds,
        what=f"end of job {job}",
    )


def force(lab: Lab, name: str) -> None:
    lab.kubectl("alice", "delete", "pod", name, "--force", "--grace-period=0")


def test_a_pod_deleted_by_force_leaves_no_job(lab: Lab) -> None:
    pods.create(lab, pods.manifest("forced", "sh", "-c", SLEEPER))
    job = pods.job_id(pods.wait_for_phase(lab, "forced", "Running"))
    force(lab, "forced")
    ends(lab, job)


@pytest.mark.disruptive
@pytest.mark.timeout(240)
def test_what_happened_while_the_agent_was_away(lab: Lab) -> None:
    """One pod deleted by force, one deleted, one that ended: all is put right afterwards."""
    names = ["away-forced", "away-deleted"]
    wanted = [pods.manifest(name, "sh", "-c", SLEEPER) for name in names]
    pods.create(lab, *wanted, pods.manifest("away-ended", "sh", "-c", "sleep 8; exit 5"))
    jobs = {
        name: pods.job_id(pods.wait_for_phase(lab, name, "Running"))
        for name in [*names, "away-ended"]
    }
    lab.run("ctl", ["systemctl", "stop", "slurmlet-kubelet"])
    try:
        force(lab, "away-forced")
        lab.kubectl("alice", "delete", "pod", "away-deleted", "--wait=false")
    finally:
        lab.run("ctl", ["systemctl", "start", "slurmlet-kubelet"])
    done = pods.wait_for_phase(lab, "away-ended", "Failed")
    assert pods.exit_code(done) == 5
    assert pods.job_id(done) == jobs["away-ended"]
    lab.kubectl("alice", "wait", "pod/away-deleted", "--for=delete", "--timeout=90s")
    for job in jobs.values():
        ends(lab, job, seconds=90)
    pods.delete(lab, "away-ended")


def test_a_job_that_its_owner_cancels_fails_its_pod(lab: Lab) -> None:
    pods.create(lab, pods.manifest("cancelled", "sh", "-c", SLEEPER))
    job = pods.job_id(pods.wait_for_phase(lab, "cancelled", "Running"))
    lab.run("ctl", ["timeout", "30", "scancel", job], user="alice")
    try:
        pods.until(
            lambda: pods.get(lab, "cancelled")["status"],
            lambda status: (status["phase"], status.get("reason")) == ("Failed", "SlurmCancelled"),
            seconds=60,
            what="SlurmCancelled",
        )
    finally:
        pods.delete(lab, "cancelled")


def test_refused_and_waiting_pods_say_why(lab: Lab) -> None:
    huge = {"slurmlet.io/cpus-per-task": "20"}
    mount = {"volumeMounts": [{"name": "c", "mountPath": "/c"}]}
    volume = {"name": "c", "configMap": {"name": "comes-later"}}
    names = ["huge", "huge-never", "early"]
    pods.create_past_admission(
        lab,
        (pods.manifest("huge", "true", restartPolicy="Always"), huge),
        (pods.manifest("huge-never", "true"), huge),
    )
    pods.create(lab, pods.manifest("early", "cat", "/c/word", container=mount, volumes=[volume]))

    def waits(name: str) -> str:
        statuses = pods.get(lab, name)["status"].get("containerStatuses") or [{}]
        return json.dumps(statuses[0].get("state", {}).get("waiting", {}))

    try:
        refused = pods.wait_for_phase(lab, "huge-never", "Failed")
        assert refused["status"]["reason"] == "SlurmRejected"
        pods.until(
            lambda: waits("huge"), lambda text: "SlurmRejected" in text, seconds=30, what="refusal"
        )
        assert pods.phase(pods.get(lab, "huge")) == "Pending"
        pods.until(
            lambda: waits("early"), lambda text: "comes-later" in text, seconds=30, what="wait"
        )
        assert pods.job_id(pods.get(lab, "early")) == ""
        lab.kubectl("alice", "create", "configmap", "comes-later", "--from-literal=word=here")
        pods.wait_for_phase(lab, "early", "Succeeded")
        assert lab.kubectl("alice", "logs", "early").stdout == "here"
    finally:
        pods.delete(lab, *names)
        lab.kubectl("alice", "delete", "configmap", "comes-later", "--ignore-not-found")
