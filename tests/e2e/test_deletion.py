"""Pods deleted in each of their states, gently and by force, and created anew at once."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from tests.e2e import fates, pods
from tests.e2e.conftest import Lab
from tests.e2e.fates import Job

NODE = "c1"
HERE = {"slurmlet.io/flags": "--exclude=c2"}
STATES = ("pending", "starting", "pulling", "running", "ending", "ended")
GENTLE, FORCED = "gently", "by-force"
FORCE = ("--force", "--grace-period=0")
AGAIN = "gone-again"
ROUNDS = 5
PORT = 5999

LOOP = "while :; do sleep 0.2; done"
QUICK = f"trap 'exit 3' TERM; echo up; {LOOP}"
SLOW = f"trap 'echo ending; sleep 10; exit 4' TERM; echo up; {LOOP}"

# A registry that takes every connection and never says a word.
SILENT = f"""
import socket, time
listener = socket.create_server(("0.0.0.0", {PORT}), backlog=64)
time.sleep(600)
"""
# Stops supervisors of certain jobs before they have said hello.
FREEZER = r"""
import os, pathlib, re, signal, time
seen, deadline = set(), time.monotonic() + 300
while len(seen) < 2 and time.monotonic() < deadline:
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = pathlib.Path("/proc", entry, "cmdline").read_bytes()
            if entry in seen or b"slurmlet.supervisor" not in words:
                continue
            environment = pathlib.Path("/proc", entry, "environ").read_bytes()
            if re.search(rb"SLURM_JOB_NAME=\w{8}/alice/gone-starting-", environment):
                os.kill(int(entry), signal.SIGSTOP)
                seen.add(entry)
                print("stopped", entry, flush=True)
        except OSError:
            continue
    time.sleep(0.02)
"""


def name_of(state: str, how: str) -> str:
    return f"gone-{state}-{how}"


ALL = [name_of(state, how) for state in STATES for how in (GENTLE, FORCED)]


def manifest(state: str, how: str) -> dict[str, Any]:
    name = name_of(state, how)
    annotations = {"pending": {"slurmlet.io/begin": "now+1hour"}, "starting": HERE}.get(state, {})
    container = {"image": f"ctl:{PORT}/never:1"} if state == "pulling" else {}
    script = {"ending": SLOW, "ended": "sleep 2"}.get(state, QUICK)
    return pods.manifest(
        name,
        *("sh", "-c", script),
        annotations=annotations,
        container=container,
        terminationGracePeriodSeconds=25,
    )


@contextmanager
def beside(lab: Lab, node: str, unit: str, *argv: str, user: str = "root") -> Iterator[str]:
    """A program that runs on a node meanwhile; what it prints goes to the file that this gives."""
    output = f"/run/{unit}.out"
    lab.run(node, ["rm", "-f", output])
    start = ["systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--uid={user}"]
    limits = ["--property=RuntimeMaxSec=600", f"--property=StandardOutput=file:{output}"]
    home = f"/home/{user}" if user != "root" else "/root"
    lab.run(node, [*start, *limits, f"--setenv=HOME={home}", *argv])
    try:
        yield output
    finally:
        lab.run(node, ["systemctl", "stop", unit], check=False)


def watch(lab: Lab, unit: str) -> Any:
    """A watch of alice's pods, as a controller has one."""
    argv = [
        "/usr/local/bin/kubectl",
        "get",
        "pods",
        "--watch",
        "--output-watch-events",
        "-o",
        "json",
    ]
    return beside(lab, "ctl", unit, *argv, user="alice")


def events_of(lab: Lab, output: str) -> dict[str, list[dict[str, Any]]]:
    """What the watch said of each pod UID, in its order."""
    decoder, rest = json.JSONDecoder(), lab.run("ctl", ["cat", output]).stdout.lstrip()
    found: dict[str, list[dict[str, Any]]] = {}
    while rest:
        try:
            event, end = decoder.raw_decode(rest)
        except ValueError:
            break  # not whole yet
        found.setdefault(event["object"]["metadata"]["uid"], []).append(event)
        rest = rest[end:].lstrip()
    return found


def logs(lab: Lab, name: str) -> str:
    return lab.kubectl("alice", "logs", name, check=False).stdout


def remove(lab: Lab, *names: str, how: str) -> None:
    lab.kubectl(
        "alice", "delete", "pod", *names, "--wait=false", "--ignore-not-found", *options_of(how)
    )


def options_of(how: str) -> tuple[str, ...]:
    return FORCE if how == FORCED else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Pods that were there: UID by name, what a watch saw and jobs by UID."""

    uids: dict[str, str]
    seen: dict[str, list[dict[str, Any]]]
    fates: dict[str, list[Job]]


def reached(lab: Lab, output: str, there: set[str]) -> set[str]:
    """The pods that are where they shall be deleted; those that were stay there."""
    found = pods.get_all(lab, sorted(set(ALL) - there))
    started = lab.run(NODE, ["cat", output]).stdout.count("stopped") == 2
    for name, pod in found.items():
        state = name.split("-")[1]
        if state == "pending":
            there |= {name} if pods.squeue(lab, pods.job_id(pod)) == "PENDING" else set()
        elif state == "starting":
            there |= {name} if started and pods.job_id(pod) else set()
        elif state == "pulling":
            told = lab.kubectl(
                "alice", "get", "events", f"--field-selector=involvedObject.name={name}"
            )
            there |= {name} if "Pulling" in told.stdout else set()
        elif state == "ended" or "up" in logs(lab, name):
            there.add(name)
    return there


def delete_all(lab: Lab) -> None:
    ending = [name for name in ALL if name.split("-")[1] == "ending"]
    remove(lab, *ending, how=GENTLE)
    pods.until(
        lambda: [logs(lab, name) for name in ending],
        lambda texts: all("ending" in text for text in texts),
        seconds=30,
        what="pods that end",
    )
    rest = [name for name in ALL if name.split("-")[1] != "ended"]
    remove(lab, *(name for name in rest if name.endswith(FORCED)), how=FORCED)
    remove(lab, *(name for name in rest if name.endswith(GENTLE)), how=GENTLE)


@pytest.fixture(scope="module")
def gone(lab: Lab) -> Iterator[Gone]:
    """Every pod brought where it shall be deleted, and deleted there; all at the same time."""
    lab.kubectl("alice", "delete", "pod", *ALL, *FORCE, "--ignore-not-found")
    python = ["/usr/bin/python3", "-I", "-u", "-c"]
    with ExitStack() as stack:
        stack.enter_context(beside(lab, "ctl", "gone-registry", *python, SILENT))
        frozen = stack.enter_context(beside(lab, NODE, "gone-freezer", *python, FREEZER))
        output = stack.enter_context(watch(lab, "gone-watch"))
        short = [name for name in ALL if name.split("-")[1] == "ended"]
        pods.create(lab, *(manifest(*name.split("-", 2)[1:]) for name in ALL))
        uids = {name: pod["metadata"]["uid"] for name, pod in pods.get_all(lab, ALL).items()}
        # In the moment in which the pod's last status is there, and its job not yet gone.
        for name, how in zip(short, (GENTLE, FORCED), strict=True):
            until = (
                f"kubectl wait pod/{name} --for=jsonpath={{.status.phase}}=Succeeded --timeout=180s"
            )
            then = (
                f"kubectl delete pod {name} --wait=false {' '.join(FORCE if how == FORCED else ())}"
            )
            stack.enter_context(
                beside(lab, "ctl", name, "/bin/sh", "-c", f"{until} && {then}", user="alice")
            )
        before: set[str] = set()
        pods.until(
            lambda: reached(lab, frozen, before),
            lambda there: there >= set(ALL) - set(short),
            seconds=180,
            what="every pod where it shall be deleted",
        )
        started = time.monotonic()
        delete_all(lab)
        pods.until(
            lambda: sorted(pods.get_all(lab, ALL)),
            lambda names: not names,
            seconds=120,
            what="every pod gone",
        )
        took = time.monotonic() - started
        ends = fates.wait_until_ended(lab, uids.values(), seconds=120)
        print(f"{took:.0f} s until all pods, {time.monotonic() - started:.0f} s until all jobs")
        yield Gone(uids=uids, seen=events_of(lab, output), fates=ends)


CLAIMS = {
    "pending": pytest.mark.claim("X30"),
    "starting": pytest.mark.claim("X31"),
    "pulling": pytest.mark.claim("X31"),
    "running": pytest.mark.claim("X32"),
    "ending": pytest.mark.claim("X33"),
    "ended": pytest.mark.claim("X33"),
}
BY_FORCE = pytest.mark.claim("X34")
EACH = [
    *(pytest.param(state, GENTLE, marks=CLAIMS[state]) for state in STATES),
    *(pytest.param(state, FORCED, marks=[CLAIMS[state], BY_FORCE]) for state in STATES),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("state", "how"), EACH)
def test_a_deleted_pod_takes_its_job_with_it(lab: Lab, gone: Gone, state: str, how: str) -> None:
    uid = gone.uids[name_of(state, how)]
    (job,) = gone.fates[uid]
    if state == "pending":
        assert (job.state, job.host) == ("CANCELLED", "")
    if state in ("pending", "starting"):
        assert job.id not in fates.planned(lab)
        path = f".slurmlet/lab/pods/{uid}"
        assert lab.run("ctl", ["test", "-e", path], user="alice", check=False).returncode == 1
    if job.host:
        assert fates.left_on(lab, job) == ""


@pytest.mark.claim("X37")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("state", STATES)
def test_a_watch_sees_the_end_before_the_deletion(gone: Gone, state: str) -> None:
    *before, last = gone.seen[gone.uids[name_of(state, GENTLE)]]
    assert last["type"] == "DELETED"
    final = before[-1]["object"]["status"]
    assert final["phase"] in ("Succeeded", "Failed")
    assert all("terminated" in item["state"] for item in final["containerStatuses"])
    order = [event["object"]["status"].get("phase") for event in before]
    ranks = [("Pending", "Running", "Succeeded", "Failed").index(phase) for phase in order]
    assert ranks == sorted(ranks)
    code = final["containerStatuses"][0]["state"]["terminated"]["exitCode"]
    expected = {"running": 3, "ending": 4, "ended": 0}
    assert code == expected.get(state, code)
    assert (code == 0) == (state == "ended")


@pytest.mark.claim("X35")
@pytest.mark.timeout(400)
def test_the_same_name_five_times_at_once(lab: Lab, request: pytest.FixtureRequest) -> None:
    """Each time the pod is further on its way; what runs in the end is the last one, whole."""
    request.addfinalizer(lambda: remove(lab, AGAIN, how=GENTLE))
    lab.kubectl("alice", "delete", "pod", AGAIN, *FORCE, "--ignore-not-found")
    moments = (
        ("created", lambda _: True),
        ("submitted", lambda pod: bool(pods.job_id(pod))),
        ("a job that runs", lambda pod: pods.squeue(lab, pods.job_id(pod)) == "RUNNING"),
        ("running", lambda pod: pods.phase(pod) == "Running"),
        ("running again", lambda pod: pods.phase(pod) == "Running"),
    )
    assert len(moments) == ROUNDS
    uids: list[str] = []
    with watch(lab, "gone-watch-again") as output:
        for number, (what, there) in enumerate(moments):
            pods.create(lab, round_of(number))
            pod = pods.until(lambda: pods.get(lab, AGAIN), there, seconds=90, what=what)
            uids.append(pod["metadata"]["uid"])
            lab.kubectl("alice", "delete", "pod", AGAIN, *FORCE)
        pods.create(lab, round_of(ROUNDS))
        last = pods.wait_for_phase(lab, AGAIN, "Running")
        text = pods.until(lambda: logs(lab, AGAIN), bool, seconds=30, what="its output")
        assert text == f"round {ROUNDS}\n"
        ends = fates.wait_until_ended(lab, uids, seconds=120)
        # The end of the others has not touched it.
        now = pods.get(lab, AGAIN)
        assert now["metadata"]["uid"] == last["metadata"]["uid"] not in uids
        assert (pods.phase(now), pods.job_id(now)) == ("Running", pods.job_id(last))
        assert now["status"]["podIP"] == last["status"]["podIP"]
        assert now["status"]["containerStatuses"][0]["restartCount"] == 0
        seen = events_of(lab, output)
    mine = fates.jobs_of(lab, [now["metadata"]["uid"]])
    assert fates.more_than_one(lab, mine) == []
    told = fates.planned(lab)
    for uid, jobs in ends.items():
        assert len([job for job in jobs if job.id in told]) <= 1, (uid, jobs)
    for jobs in [ends[uid] for uid in uids[3:]]:
        assert len([job for job in jobs if job.id in told]) == 1
    # The watch may begin after the first of them has come and gone.
    written = {uid: numbers_in(seen.get(uid, [])) for uid in [*uids, now["metadata"]["uid"]]}
    assert written[now["metadata"]["uid"]] == {pods.job_id(now)}
    for uid, numbers in written.items():
        assert numbers <= {job.id for job in {**ends, **mine}[uid]}, written
    print(", ".join(f"{len(jobs)} job(s), {[job.state for job in jobs]}" for jobs in ends.values()))


def round_of(number: int) -> dict[str, Any]:
    script = f"trap 'exit 3' TERM; echo round {number}; {LOOP}"
    return pods.manifest(AGAIN, "sh", "-c", script, terminationGracePeriodSeconds=1)


def numbers_in(events: list[dict[str, Any]]) -> set[str]:
    """The job ids that a pod ever carried."""
    return {pods.job_id(event["object"]) for event in events} - {""}


@pytest.mark.claim("X36")
@pytest.mark.timeout(240)
def test_a_finalizer_keeps_the_object_and_not_the_job(lab: Lab) -> None:
    names = {how: f"gone-kept-{how}" for how in (GENTLE, FORCED)}
    wanted = [pods.manifest(name, "sh", "-c", QUICK) for name in names.values()]
    for item in wanted:
        item["metadata"]["finalizers"] = ["example.com/keep"]
    pods.create(lab, *wanted)
    try:
        for how, name in names.items():
            pods.wait_for_phase(lab, name, "Running")
            remove(lab, name, how=how)
        for how, name in names.items():
            pod = pods.wait_for_phase(lab, name, "Failed", seconds=60)
            assert pod["metadata"]["deletionTimestamp"]
            state = pod["status"]["containerStatuses"][0]["state"]
            # Without a grace it has no time to say how it ends.
            assert how == FORCED or state["terminated"]["exitCode"] == 3
            assert "terminated" in state
            (job,) = fates.wait_until_ended(lab, [pod["metadata"]["uid"]], seconds=60)[
                pod["metadata"]["uid"]
            ]
            assert job.id == pods.job_id(pod)
    finally:
        for name in names.values():
            patch = '{"metadata":{"finalizers":null}}'
            lab.kubectl("alice", "patch", "pod", name, "--type=merge", "-p", patch)
    pods.until(
        lambda: sorted(pods.get_all(lab, list(names.values()))),
        lambda left: not left,
        seconds=30,
        what="the objects, when nobody keeps them any more",
    )


@pytest.mark.claim("X38")
@pytest.mark.timeout(240)
def test_a_job_whose_pod_is_deleted_goes_on(lab: Lab) -> None:
    name = "gone-job"
    lab.kubectl("alice", "delete", "job,configmap", name, "--ignore-not-found")
    # The first pod waits; the one that replaces it finds the key.
    go = {"name": "GO", "valueFrom": {"configMapKeyRef": {"name": name, "key": "go"}}}
    go["valueFrom"]["configMapKeyRef"]["optional"] = True  # type: ignore[index]
    script = f'trap "exit 3" TERM; [ -n "$GO" ] && exit 0; {LOOP}'
    template = pods.manifest("x", "sh", "-c", script, container={"env": [go]})
    template["spec"]["terminationGracePeriodSeconds"] = 1
    spec = {"backoffLimit": 3, "template": {"spec": template["spec"]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
    pods.create(lab, job)
    choose = ("pods", "-l", f"job-name={name}", "-o", "json")

    def running() -> list[str]:
        items = json.loads(lab.kubectl("alice", "get", *choose).stdout)["items"]
        return [item["metadata"]["name"] for item in items if pods.phase(item) == "Running"]

    (first,) = pods.until(running, bool, seconds=90, what="the Job's pod")
    lab.kubectl("alice", "create", "configmap", name, "--from-literal=go=1")
    lab.kubectl("alice", "delete", "pod", first, "--timeout=60s")
    lab.kubectl("alice", "wait", f"job/{name}", "--for=condition=Complete", "--timeout=100s")
    told = json.loads(lab.kubectl("alice", "get", "job", name, "-o", "json").stdout)["status"]
    assert told["succeeded"] == 1
    assert not told.get("uncountedTerminatedPods")
    lab.kubectl("alice", "delete", "job,configmap", name, "--wait=false")
