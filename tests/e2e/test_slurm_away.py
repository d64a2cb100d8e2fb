"""Slurm's daemons and nodes away, processors taken away, and pods that vanish in great numbers."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from tests.e2e import nodes, pods
from tests.e2e.conftest import Lab

pytestmark = pytest.mark.disruptive

LOOP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
ON_C1 = {"slurmlet.io/flags": "--exclude=c2"}
ON_C2 = {"slurmlet.io/flags": "--exclude=c1"}
LATER = {"slurmlet.io/begin": "now+1hour"}
DROP_IN = "/etc/systemd/system/slurmd.service.d/uptime.conf"
PREEMPTIBLE = {"slurmlet.io/partition": "debug", **ON_C2}
WITNESS, LOST, AGAIN, WEB = "away-witness", "away-lost", "away-again", "away-web"
AWAY_SECONDS = 30
MANY = 25
"""More than agents believe in when they vanish within a minute: 20."""

Change = Callable[[], None]


def sleeper(name: str, *, annotations: Mapping[str, str] = ON_C1, cpus: int = 1) -> dict[str, Any]:
    resources = {"requests": {"cpu": str(cpus), "memory": "64Mi"}}
    made = pods.manifest(
        name, "sh", "-c", LOOP, annotations=annotations, container={"resources": resources}
    )
    made["spec"]["terminationGracePeriodSeconds"] = 1
    return made


def deployment(name: str) -> dict[str, Any]:
    template = sleeper(name, annotations=ON_C2)
    template["metadata"] |= {"labels": {"app": name}}
    template["spec"] |= {"restartPolicy": "Always"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {key: template[key] for key in ("metadata", "spec")},
        },
    }


def of_deployment(lab: Lab, name: str) -> list[dict[str, Any]]:
    found = json.loads(
        lab.kubectl("alice", "get", "pods", "-l", f"app={name}", "-o", "json").stdout
    )
    items: list[dict[str, Any]] = found["items"]
    return items


@pytest.fixture(scope="module")
def witness(lab: Lab) -> Iterator[dict[str, Any]]:
    """A pod that nothing may happen to, as it was at the beginning; others run beside it."""
    names = [WITNESS, *(f"away-{word}" for word in ("stopped", "frozen", "books"))]
    on_c2 = [LOST, AGAIN]
    lab.kubectl("alice", "delete", "deployment", WEB, "--ignore-not-found")
    pods.delete(lab, *names, *on_c2)
    pods.create(
        lab,
        *(sleeper(name) for name in names),
        *(sleeper(name, annotations=ON_C2) for name in on_c2),
        deployment(WEB),
    )
    for name in (*names, *on_c2):
        pods.wait_for_phase(lab, name, "Running")
    yield pods.get(lab, WITNESS)
    lab.kubectl("alice", "delete", "deployment", WEB, "--ignore-not-found")
    lab.kubectl("alice", "delete", "pod", *names, *on_c2, "--ignore-not-found", "--wait=false")


def untouched(lab: Lab, witness: Mapping[str, Any]) -> None:
    now = pods.get(lab, WITNESS)
    assert pods.job_id(now) == pods.job_id(witness)
    for key in ("phase", "podIP", "startTime", "containerStatuses"):
        assert now["status"][key] == witness["status"][key], key
    assert pods.squeue(lab, pods.job_id(witness)) == "RUNNING"


def jobs_of(lab: Lab, pod: Mapping[str, Any]) -> list[str]:
    """All jobs that slurmctld knows under a pod's name, ended ones too."""
    metadata = pod["metadata"]
    name = f"{metadata['uid'][:8]}/{metadata['namespace']}/{metadata['name']}"
    argv = ["timeout", "30", "squeue", "-h", "-t", "all", "-n", name, "-o", "%i"]
    return lab.run("ctl", argv).stdout.split()


@contextmanager
def away(stop: Change, start: Change) -> Iterator[None]:
    """Slurm without a daemon for half a minute."""
    stop()
    began = time.monotonic()
    try:
        yield
        # The fault itself has this length.
        time.sleep(max(0.0, AWAY_SECONDS - (time.monotonic() - began)))
    finally:
        start()


def service(lab: Lab, verb: str, unit: str) -> None:
    lab.run("ctl", ["systemctl", verb, unit], timeout=100)


def condition(pod: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((item for item in pod["status"]["conditions"] if item["type"] == kind), {})


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("old", "stop", "start"),
    [
        pytest.param(
            "away-stopped",
            ["systemctl", "stop", "slurmctld"],
            ["systemctl", "start", "slurmctld"],
            marks=pytest.mark.claim("X9"),
            id="stopped",
        ),
        pytest.param(
            "away-frozen",
            ["systemctl", "kill", "-s", "STOP", "slurmctld"],
            ["systemctl", "kill", "-s", "CONT", "slurmctld"],
            marks=pytest.mark.claim("X10"),
            id="frozen",
        ),
    ],
)
def test_slurmctld_away(
    lab: Lab, witness: dict[str, Any], old: str, stop: list[str], start: list[str]
) -> None:
    new = f"{old}-new"
    pods.delete(lab, new)
    try:
        with away(lambda: void(lab, stop), lambda: void(lab, start)):
            pods.create(lab, sleeper(new))
            lab.kubectl("alice", "delete", "pod", old, "--wait=false")
        back = time.monotonic()
        lab.kubectl("alice", "wait", f"pod/{old}", "--for=delete", "--timeout=100s")
        gone = time.monotonic() - back
        pod = pods.wait_for_phase(lab, new, "Running")
        print(f"gone {gone:.1f} s, running {time.monotonic() - back:.1f} s after Slurm was back")
        assert jobs_of(lab, pod) == [pods.job_id(pod)]
        untouched(lab, witness)
    finally:
        lab.kubectl("alice", "delete", "pod", new, "--ignore-not-found", "--wait=false")


def void(lab: Lab, argv: list[str]) -> None:
    lab.run("ctl", argv, timeout=100)


@pytest.mark.claim("X11")
@pytest.mark.timeout(300)
def test_slurmdbd_away(lab: Lab, witness: dict[str, Any]) -> None:
    """Jobs start and end, are seen, and are in the accounting afterwards."""
    service(lab, "stop", "slurmdbd")
    try:
        pods.create(lab, pods.manifest("away-code", "sh", "-c", "exit 7", annotations=ON_C1))
        lab.kubectl("alice", "delete", "pod", "away-books", "--timeout=100s")
        pod = pods.wait_for_phase(lab, "away-code", "Failed")
        assert pods.exit_code(pod) == 7
        untouched(lab, witness)
    finally:
        service(lab, "start", "slurmdbd")
        lab.kubectl("alice", "delete", "pod", "away-code", "--ignore-not-found", "--wait=false")
    words = ["-X", "-n", "-P", "-j", pods.job_id(pod), "-o", "State,ExitCode"]
    pods.until(
        # Until slurmdbd listens again, it is refused.
        lambda: lab.run("ctl", ["timeout", "30", "sacct", *words], check=False).stdout,
        lambda text: text == "FAILED|7:0\n",
        seconds=60,
        what="the job in the accounting",
    )


@contextmanager
def own_uptime(lab: Lab, node: str) -> Iterator[None]:
    """Let slurmd see its node start now. Nodes of the lab share a kernel, and Slurm knows by the
    uptime that it registers whether a node may still have its jobs."""
    now = float(lab.run(node, ["cat", "/proc/uptime"]).stdout.split()[0])
    start = f"/usr/bin/unshare --time --boottime=-{int(now)} /usr/sbin/slurmd --systemd"
    unit = f"[Service]\nExecStart=\nExecStart={start}\n"
    lab.run(node, ["mkdir", "-p", DROP_IN.rpartition("/")[0]])
    lab.run(node, ["tee", DROP_IN], input=unit)
    # The file has to outlive a power cut.
    lab.run(node, ["sync"])
    try:
        yield
    finally:
        lab.run(node, ["rm", "-f", DROP_IN])
        lab.run(node, ["systemctl", "daemon-reload"])
        lab.run(node, ["systemctl", "restart", "slurmd"], timeout=100)


@pytest.mark.claim("X8", "X3")
@pytest.mark.timeout(400)
def test_a_node_rebooted_under_its_pods(lab: Lab, witness: dict[str, Any]) -> None:
    """A pod, a Deployment's pod, and one whose job somebody allowed Slurm to requeue."""
    before = {name: pods.get(lab, name) for name in (LOST, AGAIN)}
    jobs = {name: pods.job_id(pod) for name, pod in before.items()}
    (first,) = of_deployment(lab, WEB)
    assert pods.phase(first) == "Running"
    argv = ["timeout", "30", "scontrol", "update", f"jobid={jobs[AGAIN]}", "requeue=1"]
    lab.run("ctl", argv)
    with own_uptime(lab, "c2"):
        rebooted = time.monotonic()
        nodes.reboot(lab, "c2")

        ended = pods.wait_for_phase(lab, LOST, "Failed", seconds=180)
        print(f"NodeLost {time.monotonic() - rebooted:.0f} s after the reboot began")
        assert ended["status"]["reason"] == "NodeLost"
        assert condition(ended, "DisruptionTarget")["reason"] == "NodeLost"
        assert pods.exit_code(ended) == 137
        assert pods.squeue(lab, jobs[LOST]) == "NODE_FAIL"

        ended = pods.wait_for_phase(lab, AGAIN, "Failed", seconds=100)
        assert ended["status"]["reason"] == "SlurmRequeued"
        assert condition(ended, "DisruptionTarget")["status"] == "True"
        assert ended["status"]["podIP"] == before[AGAIN]["status"]["podIP"]
        pods.until(
            lambda: pods.squeue(lab, jobs[AGAIN]),
            lambda state: state in ("CANCELLED", "FAILED"),
            seconds=60,
            what="the end of the requeued job",
        )
        replaced = pods.until(
            lambda: [pod for pod in of_deployment(lab, WEB) if pods.phase(pod) == "Running"],
            lambda found: any(pod["metadata"]["uid"] != first["metadata"]["uid"] for pod in found),
            seconds=120,
            what="the Deployment's next pod",
        )
        print(f"its replacement ran {time.monotonic() - rebooted:.0f} s after")
        assert pods.job_id(replaced[-1]) not in ("", pods.job_id(first))
    untouched(lab, witness)
    lab.kubectl("alice", "delete", "deployment", WEB)


@pytest.mark.claim("X12")
@pytest.mark.timeout(240)
def test_a_preempted_pod_says_so(lab: Lab, witness: dict[str, Any]) -> None:
    """Slurm takes the pod's processors for a job of a partition that comes first."""
    name = "away-debug"
    pods.delete(lab, name)
    nodes.wait_idle(lab, "c2")
    pods.create(lab, sleeper(name, annotations=PREEMPTIBLE, cpus=12))
    try:
        job = pods.job_id(pods.wait_for_phase(lab, name, "Running"))
        began = time.monotonic()
        argv = ["timeout", "150", "srun", "-p", "cpu", "-w", "c2", "-c", "12", "--mem=64", "true"]
        lab.run("ctl", argv, user="bob", timeout=170)
        print(f"preempted for a job that ended {time.monotonic() - began:.1f} s later")
        pod = pods.until(
            lambda: pods.get(lab, name),
            lambda found: found["status"].get("reason") == "Preempted",
            seconds=60,
            what="Preempted",
        )
        assert pods.phase(pod) == "Failed"
        assert condition(pod, "DisruptionTarget")["reason"] == "Preempted"
        assert pods.squeue(lab, job) == "PREEMPTED"
        untouched(lab, witness)
    finally:
        lab.kubectl("alice", "delete", "pod", name, "--ignore-not-found", "--wait=false")


@pytest.mark.claim("X13")
@pytest.mark.timeout(300)
def test_pods_that_vanish_together_keep_their_jobs(lab: Lab, witness: dict[str, Any]) -> None:
    """They are gone and nobody saw a deletion, as after a restore of etcd: the agent was away."""
    names = [f"away-many-{number}" for number in range(MANY)]
    pods.create(lab, *(sleeper(name, annotations=LATER) for name in names))
    made = pods.until(
        lambda: pods.get_all(lab, names),
        lambda found: len(found) == MANY and all(map(pods.job_id, found.values())),
        seconds=150,
        what="their jobs",
    )
    jobs = {pods.job_id(pod) for pod in made.values()}
    service(lab, "stop", "slurmlet-kubelet")
    try:
        try:
            lab.kubectl("alice", "delete", "pod", *names, "--force", "--grace-period=0")
        finally:
            service(lab, "start", "slurmlet-kubelet")
        told = ["get", "events", "-n", "default", "--field-selector=reason=JobsHeld"]
        pods.until(
            lambda: lab.kubectl("root", *told, "-o", "json").stdout,
            lambda text: "left alone" in text,
            seconds=30,
            what="an event on the node",
        )
        # Longer than a single pod that vanished is given.
        time.sleep(20)
        assert waiting_jobs(lab) >= jobs
        untouched(lab, witness)
    finally:
        lab.run("ctl", ["timeout", "60", "scancel", *jobs], user="alice")
        # Their ends are seen before the agent starts anew and holds nothing any more.
        with suppress(AssertionError):
            pods.until(lambda: remembered(lab) & jobs, lambda left: not left, seconds=60, what="")
        service(lab, "restart", "slurmlet-kubelet")
    untouched(lab, witness)


def waiting_jobs(lab: Lab) -> set[str]:
    argv = ["timeout", "30", "squeue", "-h", "-t", "PENDING", "-u", "alice", "-o", "%i"]
    return set(lab.run("ctl", argv).stdout.split())


def remembered(lab: Lab) -> set[str]:
    """The jobs in the agent's journal."""
    script = "cat /var/lib/slurmlet/kubelet/jobs/*.json 2>/dev/null; true"
    text = lab.run("ctl", ["sh", "-c", script]).stdout
    decoder, found = json.JSONDecoder(), set()
    while text.strip():
        entry, end = decoder.raw_decode(text.strip())
        text = text.strip()[end:]
        found.add(str(entry["job_id"]))
    return found
