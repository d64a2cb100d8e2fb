"""Pods whose jobs wait: each says why, in Slurm's words and in plain ones.

All wait at the same time, in a lab of their own: one node is full, the other one drained.
"""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.e2e import nodes, pods
from tests.e2e.conftest import Lab

pytestmark = [pytest.mark.disruptive, pytest.mark.timeout(240)]

ONE, SMALL = "waiting-one", "waiting-small"
"""QOS that allow one job of a user, and one processor of a job."""
LIMITS = {ONE: "MaxJobsPerUser=1", SMALL: "MaxTRESPerJob=cpu=1"}
ALL_CPUS = 16
ROUND_SECONDS = 35.0
"""A round of Slurm's backfill, which estimates all starts anew, and the agent's next look."""

WAITING: Mapping[str, tuple[str, str]] = {
    "wait-next": ("Resources", "what it asks for is not free now"),
    "wait-later": ("Priority", "jobs with a higher priority wait for the same nodes"),
    "wait-begin": ("BeginTime", "its time has not come (annotation slurmlet.io/begin)"),
    "wait-other": ("Dependency", "what it depends on has not happened yet"),
    # Slurm names the nodes only if they are down, and calls those reserved that are drained.
    "wait-drained": (
        "ReqNodeNotAvail, May be reserved for other job",
        "nodes that it needs are down, drained or reserved; it starts when they are back",
    ),
    "wait-one": (
        "QOSMaxJobsPerUserLimit",
        f"you have as many jobs running as QOS {ONE} allows; it starts when one of yours ends",
    ),
    "wait-account": (
        "AssocGrpCpuLimit",
        "with it, the running jobs of your account would have more CPUs than they may together",
    ),
    "wait-small": (
        "QOSMaxCpuPerJobLimit",
        f"it asks for more CPUs than QOS {SMALL} allows a job; ask for less",
    ),
    "wait-time": (
        "PartitionTimeLimit",
        "it asks for more time than partition debug allows; ask for less time",
    ),
    "wait-held": ("JobHeldUser", "you hold it, or somebody does for you; scontrol release"),
}
"""Pod → Slurm's words, and ours."""
PROVES = {
    "wait-drained": "Q4",
    "wait-one": "Q2",
    "wait-account": "Q2",
    "wait-small": "Q2",
    "wait-time": "Q5",
    "wait-held": "Q5",
}
"""Claims of these; all others are waiting for their turn."""
LASTING = ("wait-small", "wait-time", "wait-held")
STEADY = ("wait-time", "wait-held")
"""Both schedulers of Slurm have the same reason for these."""
RUNNING = {"wait-full": "alice", "wait-first": "alice", "wait-bob": "bob"}
OF_BOB = ("wait-bob", "wait-account")


def sleeper(name: str, *, cpus: int = 1, **options: str) -> dict[str, Any]:
    return pods.manifest(
        name,
        "sleep",
        "3600",
        annotations={f"slurmlet.io/{key}": value for key, value in options.items()},
        container={"resources": {"requests": {"cpu": str(cpus), "memory": "64Mi"}}},
        terminationGracePeriodSeconds=1,
    )


def on(node: str) -> str:
    return f"--nodelist={node}"


def slurm(lab: Lab, *argv: str, user: str = "root", check: bool = True) -> None:
    lab.run("ctl", ["timeout", "60", *argv], user=user, check=check)


def sacctmgr(lab: Lab, *words: str, check: bool = True) -> None:
    slurm(lab, "sacctmgr", "-i", "-Q", *words, check=check)


def drain(lab: Lab, node: str, state: str) -> None:
    slurm(lab, "scontrol", "update", f"nodename={node}", f"state={state}", "reason=test")


def job_of(lab: Lab, name: str, user: str = "alice") -> str:
    return pods.until(
        lambda: pods.job_id(pods.get(lab, name, user)), bool, seconds=60, what=f"job of {name}"
    )


def message(pod: Mapping[str, Any]) -> str:
    (container,) = pod["status"].get("containerStatuses") or [{}]
    waiting = container.get("state", {}).get("waiting", {})
    return f"{waiting.get('reason')}: {waiting.get('message')}"


def owner(name: str) -> str:
    return "bob" if name in OF_BOB else "alice"


def says(lab: Lab, name: str, *texts: str) -> dict[str, Any]:
    """The pod, as soon as its container waits with all these words."""
    return pods.until(
        lambda: pods.get(lab, name, owner(name)),
        lambda pod: all(text in message(pod) for text in texts),
        seconds=100,
        what=f"{name} says {texts}",
    )


def told_once(lab: Lab, pod: Mapping[str, Any]) -> None:
    """Wait for the event that says why no waiting helps, and see that there is no other."""
    uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
    field = f"--field-selector=involvedObject.uid={uid},reason=SlurmPending"

    def events() -> list[dict[str, Any]]:
        text = lab.kubectl("alice", "get", "events", field, "-o", "json").stdout
        found: list[dict[str, Any]] = json.loads(text)["items"]
        return found

    (event,) = pods.until(events, bool, seconds=30, what="the event")
    said, means = WAITING[name]
    assert f"will not start as it is: {said}: {means}" in event["message"]
    assert (event["type"], event["count"]) == ("Warning", 1)


@pytest.fixture(scope="module")
def queue(lab: Lab) -> Iterator[None]:
    nodes.wait_idle(lab, "c1")
    nodes.wait_idle(lab, "c2")
    try:
        for qos, limit in LIMITS.items():
            sacctmgr(lab, "add", "qos", qos, "set", limit)
        sacctmgr(lab, "modify", "user", "alice", "set", f"qos+={','.join(LIMITS)}")
        sacctmgr(lab, "modify", "user", "bob", "set", "GrpTRES=cpu=1")
        fill(lab)
        yield
    finally:
        names = [*WAITING, *RUNNING]
        for user in ("alice", "bob"):
            mine = [name for name in names if owner(name) == user]
            lab.kubectl(user, "delete", "pod", *mine, "--ignore-not-found", "--timeout=120s")
        slurm(lab, "scontrol", "update", "nodename=c2", "state=resume", check=False)
        sacctmgr(lab, "modify", "user", "bob", "set", "GrpTRES=cpu=-1", check=False)
        sacctmgr(lab, "modify", "user", "alice", "set", f"qos-={','.join(LIMITS)}", check=False)
        sacctmgr(lab, "remove", "qos", ",".join(LIMITS), check=False)


def fill(lab: Lab) -> None:
    """First what runs, then what waits for it."""
    pods.create(
        lab,
        sleeper("wait-full", cpus=ALL_CPUS, time="60", flags=on("c1")),
        sleeper("wait-first", qos=ONE, flags=on("c2")),
        sleeper("wait-begin", begin="now+1hour"),
        sleeper("wait-held", begin="now+1hour"),
    )
    pods.create(lab, sleeper("wait-bob", flags=on("c2")), user="bob")
    for name, user in RUNNING.items():
        pods.until(
            lambda name=name, user=user: pods.phase(pods.get(lab, name, user)),  # type: ignore[misc]
            lambda phase: phase == "Running",
            seconds=120,
            what=name,
        )
    drain(lab, "c2", "drain")
    slurm(lab, "scontrol", "hold", job_of(lab, "wait-held"), user="alice")
    pods.create(
        lab,
        sleeper("wait-next", cpus=ALL_CPUS, flags=on("c1")),
        sleeper("wait-other", dependency=f"afterok:{job_of(lab, 'wait-begin')}"),
        sleeper("wait-drained", flags=on("c2")),
        sleeper("wait-one", qos=ONE),
        sleeper("wait-small", qos=SMALL, cpus=2),
        sleeper("wait-time", partition="debug", time="60"),
    )
    pods.create(lab, sleeper("wait-account"), user="bob")
    # What is queued later has a lower priority.
    says(lab, "wait-next", "Resources")
    pods.create(lab, sleeper("wait-later", cpus=ALL_CPUS, flags=on("c1")))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.claim(PROVES.get(name, "Q3"))) for name in WAITING],
)
def test_a_waiting_pod_says_why(lab: Lab, queue: None, name: str) -> None:
    said, means = WAITING[name]
    pod = says(lab, name, f"waits: {said}: ", means)
    assert pods.phase(pod) == "Pending"
    assert message(pod).startswith(f"SlurmPending: Slurm job {pods.job_id(pod)} waits: ")
    print(f"{name}: {message(pod)}")


@pytest.mark.claim("Q6")
@pytest.mark.parametrize("name", LASTING)
def test_what_no_waiting_helps_is_one_event(lab: Lab, queue: None, name: str) -> None:
    told_once(lab, says(lab, name, WAITING[name][1]))


@pytest.mark.claim("Q7")
def test_a_waiting_pod_says_when_it_may_start(lab: Lab, queue: None) -> None:
    """And is not written again when Slurm has estimated all starts anew."""
    says(lab, "wait-begin", "Slurm expects it to start at 2")
    pod = says(lab, "wait-next", "Slurm expects it to start at 2")
    print(message(pod))
    time.sleep(ROUND_SECONDS)
    later = pods.get(lab, "wait-next")
    assert later["metadata"]["resourceVersion"] == pod["metadata"]["resourceVersion"]
    held = pods.get(lab, "wait-held")
    assert "expects" not in message(held)


@pytest.mark.claim("Q6")
def test_an_agent_that_starts_anew_tells_nothing_twice(lab: Lab, queue: None) -> None:
    before = {name: says(lab, name, WAITING[name][1]) for name in STEADY}
    lab.run("ctl", ["systemctl", "restart", "slurmlet-kubelet"], timeout=100)
    time.sleep(ROUND_SECONDS)
    for name, pod in before.items():
        told_once(lab, pod)
        assert message(pods.get(lab, name)) == message(pod)
