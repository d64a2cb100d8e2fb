"""Our own parts killed, doubled or away while pods start and run."""

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.e2e import fates, pods
from tests.e2e.conftest import ROOT, Lab
from tests.e2e.fates import AGENT, SECOND_AGENT

pytestmark = pytest.mark.disruptive

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
"""Another value each time; what failed is repeated with SEED=... in the environment."""
PODS = 14
"""Of a round: 40 and a few in the three rounds of a usual run, and half of what fits the nodes."""
KILLS = 3
SPAN = 6.0
"""Seconds in which the agent is killed, and in which the pods would all have started."""
BROKER = "slurmlet-broker"
PROGRAM = "/opt/slurmlet/current/bin/slurmlet-kubelet"
ANOTHER = "another agent (process"

HELD = "/run/slurmlet-held"
# sbatch, the first of which waits before or after it did its work, as the file `when` says, until
# that file is gone. The broker's own path to sbatch stays: it is another configuration.
SBATCH = f"""#!/bin/sh
mkdir {HELD}/first 2>/dev/null || exec /usr/bin/sbatch "$@"
read -r when < {HELD}/when
hold() {{ : > {HELD}/reached; while [ -e {HELD}/when ]; do sleep 0.1; done; }}
if [ "$when" = before ]; then hold; exec /usr/bin/sbatch "$@"; fi
said=$(/usr/bin/sbatch "$@"); code=$?
hold
echo "$said"; exit $code
"""
DROP_IN = f"/run/systemd/system/{BROKER}.service.d/held.conf"
OTHER_BROKER = rf"""
set -e
mkdir -p {HELD} $(dirname {DROP_IN})
chmod 1777 {HELD}
cat > {HELD}/sbatch
chmod 755 {HELD}/sbatch
sed 's|^\[broker\]$|[broker]\nsbatch = "{HELD}/sbatch"\nsubmit_timeout = 120.0|' \
    /etc/slurmlet/slurmlet.toml > {HELD}/slurmlet.toml
printf '[Service]\nExecStart=\nExecStart=%s --config %s\n' \
    /opt/slurmlet/current/bin/slurmlet-broker {HELD}/slurmlet.toml > {DROP_IN}
systemctl daemon-reload
systemctl restart {BROKER}
"""
USUAL_BROKER = f"""
rm -rf {HELD} $(dirname {DROP_IN})
systemctl daemon-reload
systemctl restart {BROKER}
"""
# Kills the supervisor of a job, which is on this node.
KILL_SUPERVISOR = r"""
import os, pathlib, re, signal, sys
for entry in filter(str.isdecimal, os.listdir("/proc")):
    try:
        group = pathlib.Path("/proc", entry, "cgroup").read_text()
        words = pathlib.Path("/proc", entry, "cmdline").read_bytes()
    except OSError:
        continue
    if re.search(rf"/job_{sys.argv[1]}(/|$)", group, re.M) and b"-m\0slurmlet.supervisor" in words:
        os.kill(int(entry), signal.SIGKILL)
        print("killed", entry)
"""


def brief(name: str, *, seconds: float = 0.2, **changes: Any) -> dict[str, Any]:
    small = {"requests": {"cpu": "250m", "memory": "32Mi"}}
    return pods.manifest(
        name,
        "sleep",
        str(seconds),
        container={"resources": small},
        terminationGracePeriodSeconds=1,
        **changes,
    )


@contextmanager
def creating(lab: Lab, items: list[dict[str, Any]]) -> Iterator[None]:
    """Create the pods, but do not wait for it: what happens meanwhile shall meet every stage."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    argv = [str(ROOT / "lab"), "exec", "ctl", "--name", lab.name, "--user", "alice", "--"]
    with subprocess.Popen(
        [*argv, "kubectl", "create", "-f", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as create:
        try:
            assert create.stdin is not None
            create.stdin.write(text.encode())
            create.stdin.close()
            yield
            assert create.wait(timeout=100) == 0
        finally:
            create.kill()


def uids_of(lab: Lab, names: list[str]) -> dict[str, str]:
    return {name: pod["metadata"]["uid"] for name, pod in pods.get_all(lab, names).items()}


def wait_for_success(lab: Lab, names: list[str], *, seconds: float = 240) -> None:
    seen = pods.until(
        lambda: {name: pods.phase(pod) for name, pod in pods.get_all(lab, names).items()},
        lambda phases: all(phase in ("Succeeded", "Failed") for phase in phases.values()),
        seconds=seconds,
        what="every pod's end",
    )
    assert seen == dict.fromkeys(names, "Succeeded")


def kill(lab: Lab, unit: str) -> None:
    """kill -9 of everything in the unit; systemd starts it anew."""
    lab.run("ctl", ["systemctl", "kill", "--signal=KILL", unit], check=False)


def wait_until_ready(lab: Lab) -> None:
    pods.until(
        lambda: lab.run("ctl", ["curl", "-sk", "https://10.77.0.1:10250/healthz"], check=False),
        lambda answer: answer.returncode == 0,
        seconds=60,
        what="the agent's port",
    )


@pytest.mark.claim("X20")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_agent_killed_while_pods_are_created(lab: Lab, number: int) -> None:
    rng = random.Random(f"{SEED}-{number}")
    moments = sorted(rng.uniform(0, SPAN) for _ in range(KILLS))
    names = [f"storm-{number}-{index}" for index in range(PODS)]
    pods.delete(lab, *names)
    wait_until_ready(lab)
    started = time.monotonic()
    try:
        with creating(lab, [brief(name) for name in names]):
            for moment in moments:
                time.sleep(max(0.0, started + moment - time.monotonic()))
                kill(lab, AGENT)
        uids = uids_of(lab, names)
        assert len(uids) == PODS
        wait_for_success(lab, names)
        found = fates.wait_until_ended(lab, uids.values(), seconds=60)
        assert fates.more_than_one(lab, found) == []
        print(
            f"round {number}, SEED={SEED}: agent killed after"
            f" {', '.join(f'{moment:.1f}' for moment in moments)} s;"
            f" {PODS} pods had {sum(map(len, found.values()))} jobs"
            f" ({time.monotonic() - started:.0f} s)"
        )
    finally:
        lab.kubectl("alice", "delete", "pod", *names, "--ignore-not-found", "--wait=false")


@contextmanager
def held(lab: Lab, when: str) -> Iterator[None]:
    """The next sbatch of the broker stands still `before` or `after` it worked, in the block."""
    lab.run("ctl", ["rm", "-rf", f"{HELD}/first", f"{HELD}/reached"])
    lab.run("ctl", ["tee", f"{HELD}/when"], input=f"{when}\n")
    try:
        yield
    finally:
        lab.run("ctl", ["rm", "-f", f"{HELD}/when"])


def wait_until_held(lab: Lab) -> None:
    pods.until(
        lambda: lab.run("ctl", ["test", "-e", f"{HELD}/reached"], check=False).returncode,
        lambda code: code == 0,
        seconds=60,
        what="an sbatch that stands still",
    )


@pytest.fixture(scope="module")
def patient(lab: Lab) -> Iterator[None]:
    """A broker whose sbatch can be held."""
    lab.run("ctl", ["sh", "-c", OTHER_BROKER], input=SBATCH)
    try:
        yield
    finally:
        lab.run("ctl", ["sh", "-c", USUAL_BROKER])
        wait_until_ready(lab)


def only_job(lab: Lab, name: str) -> str:
    """The one job of a pod that succeeded, which had the pod."""
    uid = pods.get(lab, name)["metadata"]["uid"]
    found = fates.wait_until_ended(lab, [uid], seconds=60)
    assert fates.more_than_one(lab, found) == []
    (job,) = found[uid]
    return job.id


@pytest.mark.claim("X21")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("unit", [AGENT, BROKER])
@pytest.mark.usefixtures("patient")
def test_killed_between_sbatch_and_its_answer(lab: Lab, unit: str) -> None:
    name = f"answer-{unit}"
    pods.delete(lab, name)
    wait_until_ready(lab)
    with held(lab, "after"):
        pods.create(lab, brief(name))
        wait_until_held(lab)
        assert pods.job_id(pods.get(lab, name)) == ""
        kill(lab, unit)
        # Whoever knows the job now found it again.
        pods.until(
            lambda: pods.job_id(pods.get(lab, name)), bool, seconds=120, what="the pod's job"
        )
    wait_for_success(lab, [name])
    assert only_job(lab, name) == pods.job_id(pods.get(lab, name))
    lab.kubectl("alice", "delete", "pod", name, "--wait=false")


@pytest.mark.claim("X22")
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("patient")
def test_an_sbatch_that_comes_late_makes_a_job_that_is_dismissed(lab: Lab) -> None:
    """The agent is killed during sbatch; the next one submits again, and then the first works."""
    name = "late"
    pods.delete(lab, name)
    wait_until_ready(lab)
    with held(lab, "before"):
        pods.create(lab, brief(name, seconds=20))
        wait_until_held(lab)
        kill(lab, AGENT)
        running = pods.wait_for_phase(lab, name, "Running")
    uid, chosen = running["metadata"]["uid"], pods.job_id(running)
    found = pods.until(
        lambda: fates.jobs_of(lab, [uid])[uid],
        lambda jobs: len(jobs) == 2,
        seconds=60,
        what="the job of the late sbatch",
    )
    (late,) = {job.id for job in found} - {chosen}
    wait_for_success(lab, [name])
    ends = fates.wait_until_ended(lab, [uid], seconds=60)
    assert fates.more_than_one(lab, ends) == []
    assert chosen in fates.planned(lab)
    assert [job.state for job in ends[uid] if job.id == chosen] == ["COMPLETED"]
    assert [job.state in ("FAILED", "CANCELLED") for job in ends[uid] if job.id == late] == [True]
    lab.kubectl("alice", "delete", "pod", name, "--wait=false")


@pytest.mark.claim("X23")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.usefixtures("patient")
def test_a_pod_deleted_by_force_during_sbatch_leaves_no_job(lab: Lab, killed: bool) -> None:
    """Nothing of Kubernetes knows the pod any more when its job comes to be."""
    name = f"unseen-{str(killed).lower()}"
    wait_until_ready(lab)
    with held(lab, "before"):
        pods.create(lab, brief(name, seconds=600))
        wait_until_held(lab)
        uid = pods.get(lab, name)["metadata"]["uid"]
        lab.kubectl("alice", "delete", "pod", name, "--force", "--grace-period=0")
        if killed:
            kill(lab, AGENT)
    pods.until(lambda: fates.jobs_of(lab, [uid])[uid], bool, seconds=60, what="the job")
    (job,) = fates.wait_until_ended(lab, [uid], seconds=120)[uid]
    assert job.state in ("CANCELLED", "FAILED")
    assert job.id not in fates.planned(lab)
    if job.host:
        assert fates.left_on(lab, job) == ""


@pytest.mark.claim("X24")
@pytest.mark.timeout(300)
def test_supervisor_killed(lab: Lab) -> None:
    names = {policy: f"orphaned-{policy.lower()}" for policy in ("Never", "Always")}
    lab.kubectl("alice", "delete", "deployment", "orphaned", "--ignore-not-found")
    pods.delete(lab, *names.values())
    alone = [brief(name, seconds=600, restartPolicy=policy) for policy, name in names.items()]
    labels = {"app": "orphaned"}
    template = {
        "metadata": {"labels": labels},
        "spec": brief("x", seconds=600, restartPolicy="Always")["spec"],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "orphaned"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
    pods.create(lab, *alone, deployment)

    def replicas() -> dict[str, str]:
        items = json.loads(
            lab.kubectl("alice", "get", "pods", "-l", "app=orphaned", "-o", "json").stdout
        )["items"]
        return {item["metadata"]["name"]: pods.phase(item) for item in items}

    try:
        running = [pods.wait_for_phase(lab, name, "Running") for name in names.values()]
        before = pods.until(
            replicas, lambda found: "Running" in found.values(), seconds=60, what="the replica"
        )
        running += [pods.get(lab, name) for name in before]
        for pod in running:
            job = pods.job_id(pod)
            node = pod["metadata"]["annotations"]["status.slurmlet.io/nodes"]
            killed = lab.run(node, ["python3", "-I", "-c", KILL_SUPERVISOR, job]).stdout
            assert killed.count("killed") == 1
        started = time.monotonic()
        for pod in running:
            name = pod["metadata"]["name"]
            failed = pods.wait_for_phase(lab, name, "Failed", seconds=90)
            assert failed["status"]["reason"] == "Error"
            assert f"Slurm job {pods.job_id(pod)} is FAILED" in failed["status"]["message"]
            ended = failed["status"]["containerStatuses"][0]["state"]["terminated"]
            assert ended["exitCode"] == 137
        print(f"Failed {time.monotonic() - started:.0f} s after the supervisors were killed")
        pods.until(
            replicas,
            lambda found: any(
                phase == "Running" and name not in before for name, phase in found.items()
            ),
            seconds=60,
            what="another replica",
        )
        ends = fates.wait_until_ended(lab, [pod["metadata"]["uid"] for pod in running], seconds=60)
        for jobs in ends.values():
            # One job is one try: nothing of it starts the pod again.
            (only,) = jobs
            assert only.state == "FAILED"
            assert fates.left_on(lab, only) == ""
    finally:
        lab.kubectl("alice", "delete", "deployment", "orphaned", "--wait=false")
        lab.kubectl("alice", "delete", "pod", *names.values(), "--wait=false")


@pytest.mark.claim("X25")
@pytest.mark.timeout(400)
def test_api_server_restarted(lab: Lab) -> None:
    running = [f"api-running-{index}" for index in range(5)]
    starting = [f"api-starting-{index}" for index in range(5)]
    pods.delete(lab, *running, *starting)
    wait_until_ready(lab)
    pods.create(lab, *(brief(name, seconds=30) for name in running))
    before = pods.until(
        lambda: pods.get_all(lab, running),
        lambda found: all(pods.phase(pod) == "Running" for pod in found.values()),
        seconds=90,
        what="five pods that run",
    )
    pods.create(lab, *(brief(name) for name in starting))
    started = time.monotonic()
    lab.run("ctl", ["systemctl", "restart", "slurmlet-apiserver"], timeout=120)
    pods.until(
        lambda: lab.kubectl("alice", "get", "--raw", "/readyz", check=False).stdout,
        lambda text: text == "ok",
        seconds=90,
        what="an API server that is ready",
    )
    print(f"API server away for at most {time.monotonic() - started:.0f} s")
    said = ["journalctl", "-u", "slurmlet-apiserver", "--since=-3min", "--no-pager", "-o", "cat"]
    # Open watches do not hold it up until systemd loses patience.
    assert "with signal SIGKILL" not in lab.run("ctl", said).stdout
    wait_for_success(lab, running + starting)
    after = pods.get_all(lab, running + starting)
    for name, pod in before.items():
        assert pods.job_id(after[name]) == pods.job_id(pod)
        assert after[name]["status"]["startTime"] == pod["status"]["startTime"]
    for pod in after.values():
        assert pods.exit_code(pod) == 0
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    uids = [pod["metadata"]["uid"] for pod in after.values()]
    assert fates.more_than_one(lab, fates.wait_until_ended(lab, uids, seconds=60)) == []
    lab.kubectl("alice", "delete", "pod", *running, *starting, "--wait=false")


@pytest.mark.claim("X26")
@pytest.mark.timeout(300)
def test_two_agents_at_once(lab: Lab) -> None:
    names = [f"two-{index}" for index in range(8)]
    pods.delete(lab, *names)
    wait_until_ready(lab)
    second = f"systemd-run --quiet --collect --unit={SECOND_AGENT} --uid=slurmlet {PROGRAM}"
    first = f"systemctl start --no-block {AGENT}"
    try:
        lab.run("ctl", ["systemctl", "stop", AGENT], timeout=90)
        since = lab.run("ctl", ["date", "+%F %T"]).stdout.strip()
        with creating(lab, [brief(name) for name in names]):
            lab.run("ctl", ["sh", "-c", f"{second} & {first}; wait"])
        wait_until_ready(lab)
        argv = ["journalctl", "-u", AGENT, "-u", SECOND_AGENT, "--since", since, "-o", "cat"]
        pods.until(
            lambda: lab.run("ctl", [*argv, "--no-pager"]).stdout,
            lambda text: ANOTHER in text,
            seconds=60,
            what="word of the other agent",
        )
        wait_for_success(lab, names)
        uids = uids_of(lab, names)
        found = fates.wait_until_ended(lab, uids.values(), seconds=60)
        assert fates.more_than_one(lab, found) == []
        assert {len(jobs) for jobs in found.values()} == {1}
        # Whoever has the node: a third one is told so at once.
        third = lab.run("ctl", ["runuser", "-u", "slurmlet", "--", PROGRAM], check=False)
        assert third.returncode == 1
        assert ANOTHER in third.stderr
        assert len(third.stderr.splitlines()) == 1
    finally:
        lab.run("ctl", ["systemctl", "kill", "--signal=KILL", SECOND_AGENT], check=False)
        lab.run("ctl", ["systemctl", "start", AGENT])
    # The unit takes over as soon as the other one is gone, however it went.
    holder = ["cat", "/var/lib/slurmlet/kubelet/agent.lock"]
    main = ["systemctl", "show", "--property=MainPID", "--value", AGENT]
    pods.until(
        lambda: (lab.run("ctl", holder).stdout.strip(), lab.run("ctl", main).stdout.strip()),
        lambda pair: pair[0] == pair[1],
        seconds=60,
        what="the unit's agent with the lock",
    )
    wait_until_ready(lab)
    lab.kubectl("alice", "delete", "pod", *names, "--wait=false")
