"""What users and administrators do to a pod's job behind the agent's back, with Slurm's own tools.

All pods start together; the tests look at them in the order in which they get ready.
"""

import json
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab

LOOP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
HOG = "sleep 1; exec tail /dev/zero"
NAMES = {
    kind: f"slurmf-{kind}"
    for kind in ("time", "held", "cancel", "requeue", "words", "freeze", "frozen", "oom")
}
MINUTE = {"slurmlet.io/time": "1"}
LATER = {"slurmlet.io/begin": "now+1hour"}
MEGABYTES = {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "64Mi"}}}


def sleeper(kind: str, **more: Any) -> dict[str, Any]:
    made = pods.manifest(NAMES[kind], "sh", "-c", LOOP, **more)
    made["spec"]["terminationGracePeriodSeconds"] = 1
    return made


def hungry() -> dict[str, Any]:
    """Two containers under one limit, of which one wants more."""
    made = sleeper("oom", container=MEGABYTES)
    (main,) = made["spec"]["containers"]
    hog = main | {"name": "hog", "command": ["sh", "-c", HOG]}
    made["spec"]["containers"] = [main, hog]
    return made


@pytest.fixture(scope="module")
def jobs(lab: Lab) -> Iterator[Mapping[str, str]]:
    """Pod kind → its job; the pods that can run do so."""
    pods.delete(lab, *NAMES.values())
    # The time limit takes the longest, so it comes first.
    pods.create(
        lab,
        sleeper("time", annotations=MINUTE),
        sleeper("held", annotations=LATER),
        hungry(),
        *(sleeper(kind) for kind in ("cancel", "requeue", "words", "freeze", "frozen")),
    )

    def settled(found: Mapping[str, Any]) -> bool:
        return len(found) == len(NAMES) and all(
            pods.job_id(pod) and (name == NAMES["held"] or pods.phase(pod) != "Pending")
            for name, pod in found.items()
        )

    found = pods.until(
        lambda: pods.get_all(lab, list(NAMES.values())), settled, seconds=150, what="the pods"
    )
    yield {kind: pods.job_id(found[name]) for kind, name in NAMES.items()}
    lab.kubectl("alice", "delete", "pod", *NAMES.values(), "--wait=false", "--ignore-not-found")


def scontrol(lab: Lab, *words: str, user: str = "alice", check: bool = True) -> str:
    argv = ["timeout", "30", "scontrol", *words]
    done = lab.run("ctl", argv, user=user, check=check)
    return done.stdout + done.stderr


def status(lab: Lab, kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = pods.get(lab, NAMES[kind])["status"]
    return found


def condition(found: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((item for item in found["conditions"] if item["type"] == kind), {})


def ready(found: Mapping[str, Any]) -> bool:
    return condition(found, "Ready").get("status") == "True"


def waiting(found: Mapping[str, Any]) -> str:
    (container,) = found.get("containerStatuses") or [{}]
    return json.dumps(container.get("state", {}).get("waiting", {}))


def failed(lab: Lab, kind: str, reason: str, *, seconds: float) -> Mapping[str, Any]:
    """The status of a pod that failed for this reason."""
    return pods.until(
        lambda: status(lab, kind),
        lambda found: (found["phase"], found.get("reason")) == ("Failed", reason),
        seconds=seconds,
        what=f"{kind}: {reason}",
    )


def job_ends(lab: Lab, job: str, *words: str, seconds: float = 60) -> None:
    pods.until(
        lambda: pods.squeue(lab, job),
        lambda state: state in words,
        seconds=seconds,
        what=f"job {job} is one of {words}",
    )


def events(lab: Lab, kind: str) -> str:
    field = f"--field-selector=involvedObject.name={NAMES[kind]}"
    return lab.kubectl("alice", "get", "events", field).stdout


@pytest.mark.claim("X2")
def test_a_held_job_says_so_and_starts_when_released(lab: Lab, jobs: Mapping[str, str]) -> None:
    job = jobs["held"]
    assert "BeginTime" in waiting(status(lab, "held"))
    scontrol(lab, "hold", job)
    scontrol(lab, "update", f"jobid={job}", "starttime=now")
    pods.until(
        lambda: waiting(status(lab, "held")),
        lambda text: "JobHeldUser" in text,
        seconds=60,
        what="the reason that the job waits for",
    )
    assert pods.phase(pods.get(lab, NAMES["held"])) == "Pending"
    pods.until(
        lambda: events(lab, "held"), lambda text: "JobHeldUser" in text, seconds=30, what="event"
    )
    scontrol(lab, "release", job)
    done = pods.wait_for_phase(lab, NAMES["held"], "Running")
    assert pods.job_id(done) == job


@pytest.mark.claim("X1")
def test_a_cancelled_job_fails_its_pod(lab: Lab, jobs: Mapping[str, str]) -> None:
    lab.run("ctl", ["timeout", "30", "scancel", jobs["cancel"]], user="alice")
    found = failed(lab, "cancel", "SlurmCancelled", seconds=60)
    assert "terminated" in found["containerStatuses"][0]["state"]
    assert not ready(found)
    job_ends(lab, jobs["cancel"], "CANCELLED")


@pytest.mark.claim("X4")
def test_words_on_the_job_change_nothing(lab: Lab, jobs: Mapping[str, str]) -> None:
    """Not even if they look like a line of squeue, or like a job of another pod."""
    job, other = jobs["words"], jobs["requeue"]
    before = pods.get(lab, NAMES["words"])
    line = f"{job}|COMPLETED|2001|c1|1|None"
    uid = before["metadata"]["uid"]
    scontrol(lab, "update", f"jobid={job}", f"jobname=x\n{line}\n{other}|FAILED|2001|c1|1|None\n")
    scontrol(lab, "update", f"jobid={job}", f"comment=x\n{line}\nslurmlet:lab:alice/x:{uid}:1")
    # The agent asks Slurm every ten seconds at least; a change elsewhere proves that it has.
    scontrol(lab, "update", f"jobid={other}", "comment=gone")
    time.sleep(12)
    after = pods.get(lab, NAMES["words"])
    assert pods.phase(after) == "Running"
    assert pods.job_id(after) == job
    assert after["status"] == before["status"] | {"conditions": after["status"]["conditions"]}
    assert ready(after["status"])
    assert pods.phase(pods.get(lab, NAMES["requeue"])) == "Running"
    lab.kubectl("alice", "logs", NAMES["words"])


@pytest.mark.claim("X6")
def test_the_container_that_ran_out_of_memory_says_so(lab: Lab, jobs: Mapping[str, str]) -> None:
    def hog() -> dict[str, Any]:
        found = {c["name"]: c for c in status(lab, "oom")["containerStatuses"]}
        ended: dict[str, Any] = found["hog"]["state"].get("terminated") or {}
        return ended | {"main": found["main"]["state"]}

    found = pods.until(hog, lambda ended: "exitCode" in ended, seconds=90, what="the hog's end")
    assert (found["exitCode"], found["reason"]) == (137, "OOMKilled")
    assert "running" in found["main"]
    assert pods.phase(pods.get(lab, NAMES["oom"])) == "Running"
    assert pods.squeue(lab, jobs["oom"]) == "RUNNING"


@pytest.mark.claim("X5")
@pytest.mark.timeout(240)
def test_a_suspended_pod_is_not_ready_until_it_is_resumed(
    lab: Lab, jobs: Mapping[str, str]
) -> None:
    """Long enough that the agent has lost sight of the supervisor."""
    for kind in ("freeze", "frozen"):
        scontrol(lab, "suspend", jobs[kind], user="root")
    for kind in ("freeze", "frozen"):
        found = pods.until(
            partial(status, lab, kind),
            lambda now: condition(now, "Ready").get("reason") == "SlurmSuspended",
            seconds=60,
            what="SlurmSuspended",
        )
        assert found["phase"] == "Running"
        assert not ready(found)
    # Deleted while suspended: it is not waited for what cannot answer.
    asked = time.monotonic()
    lab.kubectl("alice", "delete", "pod", NAMES["frozen"], "--timeout=100s")
    print(f"a suspended pod was deleted in {time.monotonic() - asked:.1f} s")
    job_ends(lab, jobs["frozen"], "CANCELLED", "")
    scontrol(lab, "resume", jobs["freeze"], user="root")
    asked = time.monotonic()
    found = pods.until(lambda: status(lab, "freeze"), ready, seconds=90, what="ready again")
    print(f"ready {time.monotonic() - asked:.1f} s after resume")
    assert found["phase"] == "Running"
    assert found["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.claim("X3")
@pytest.mark.timeout(240)
def test_a_requeued_job_runs_its_pod_no_second_time(lab: Lab, jobs: Mapping[str, str]) -> None:
    """Slurm refuses it, also to root, until somebody allows it; then the pod fails and the job
    goes."""
    for user in ("alice", "root"):
        said = scontrol(lab, "requeue", jobs["requeue"], user=user, check=False)
        print(f"scontrol requeue by {user}: {said.strip()}")
    assert pods.squeue(lab, jobs["requeue"]) == "RUNNING"
    assert ready(status(lab, "requeue"))
    scontrol(lab, "update", f"jobid={jobs['requeue']}", "requeue=1", user="root")
    scontrol(lab, "requeue", jobs["requeue"])
    found = failed(lab, "requeue", "SlurmRequeued", seconds=100)
    assert condition(found, "DisruptionTarget")["reason"] == "SlurmRequeued"
    job_ends(lab, jobs["requeue"], "CANCELLED", seconds=100)


@pytest.mark.claim("X7")
@pytest.mark.timeout(260)
def test_the_time_limit_ends_the_pod(lab: Lab, jobs: Mapping[str, str]) -> None:
    """Slurm looks every half minute at limits of a minute or more."""
    found = failed(lab, "time", "DeadlineExceeded", seconds=200)
    assert "terminated" in found["containerStatuses"][0]["state"]
    # It ends by itself after Slurm's warning, or it is ended.
    job_ends(lab, jobs["time"], "FAILED", "TIMEOUT")
    rows = pods.sacct(lab, jobs["time"], "State,Start,End,Timelimit")
    print(f"time limit: {rows}")
