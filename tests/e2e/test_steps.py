"""Containers' init, and steps in pods: what they leave behind, and what they meet."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab

ENGINES = ["crun", "apptainer"]
MARK = 86399
"""Seconds that nobody else sleeps: how the test knows its processes on the node."""


def on_c1(engine: str) -> dict[str, str]:
    return {"slurmlet.io/flags": "--exclude=c2", "slurmlet.io/engine": engine}


def make(name: str, *command: str, engine: str, **container: Any) -> dict[str, Any]:
    """A pod on c1 with room for two tasks."""
    resources = {"requests": {"cpu": "2", "memory": "64Mi"}}
    return pods.manifest(
        name, *command, annotations=on_c1(engine), container={"resources": resources, **container}
    )


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[dict[str, dict[str, Any]]]:
    """A pod of each engine, by engine; each writes a file and starts what does not hear SIGTERM."""
    script = (
        f"echo from the pod >/marker; (trap '' TERM; setsid sleep {MARK}) & "
        "trap 'exit 3' TERM; while :; do sleep 0.2; done"
    )
    names = {engine: f"steps-{engine}" for engine in ENGINES}
    pods.delete(lab, *names.values())
    env = [{"name": "GREETING", "value": "hi"}]
    pods.create(
        lab,
        *(
            make(name, "sh", "-c", script, engine=engine, env=env, workingDir="/var")
            for engine, name in names.items()
        ),
    )
    words = [f"pod/{name}" for name in names.values()]
    lab.kubectl("alice", "wait", "--for=condition=Ready", *words, "--timeout=100s")
    yield {engine: pods.get(lab, name) for engine, name in names.items()}
    pods.delete(lab, *names.values())


def srun(lab: Lab, *words: str, user: str = "alice", **variables: str) -> tuple[int, str, str]:
    """Exit status, output and messages of srun on the login node."""
    set_ = [f"{name}={value}" for name, value in variables.items()]
    argv = ["env", *set_, "timeout", "60", "srun", *words]
    done = lab.run("ctl", argv, user=user, check=False, timeout=90)
    return done.returncode, done.stdout, done.stderr


def into(pod: dict[str, Any]) -> str:
    return f"--k8s-pod=alice/{pod['metadata']['name']}"


@pytest.mark.claim("J10")
@pytest.mark.parametrize("engine", ENGINES)
def test_orphans_of_a_step_are_reaped(
    lab: Lab, running: dict[str, dict[str, Any]], engine: str
) -> None:
    pod = into(running[engine])
    # Orphaned in the pod, and gone before the step is: only PID 1 can reap it.
    script = (
        "(sleep 0.1 & echo $! >/orphan); n=0;"
        " while [ -e /proc/$(cat /orphan) ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done;"
        " [ -e /proc/$(cat /orphan) ] || echo reaped; tr '\\0' ' ' </proc/1/cmdline"
    )
    code, out, err = srun(lab, pod, "sh", "-c", script)
    assert (code, out.splitlines()[0]) == (0, "reaped"), err
    assert out.splitlines()[1].startswith("/.slurmlet-init --init ")
    # Killed with the step, and reaped by PID 1 as well.
    left = "setsid sleep 300 >/dev/null 2>&1 & exit 0"
    assert srun(lab, pod, "sh", "-c", left)[0] == 0
    code, out, err = srun(lab, pod, "sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status; true")
    assert (code, out) == (0, ""), err


@pytest.mark.claim("J12")
@pytest.mark.parametrize("engine", ENGINES)
def test_both_engines_pods_can_be_entered(
    lab: Lab, running: dict[str, dict[str, Any]], engine: str
) -> None:
    pod = running[engine]
    name = pod["metadata"]["name"]
    script = "hostname; pwd; cat /marker; id -u; echo $GREETING $SLURM_JOB_ID; ps; touch /written"
    code, out, err = srun(lab, into(pod), "sh", "-c", script)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[:5] == [name, "/var", "from the pod", "0", f"hi {pods.job_id(pod)}"]
    assert [line for line in lines[6:] if f"sleep {MARK}" in line]
    assert srun(lab, into(pod), "test", "-e", "/written")[0] == 0
    assert srun(lab, into(pod), "--k8s-pod-ns=-mnt,-pid", "cat", "/etc/hostname")[1] == "c1\n"
    two = srun(lab, "-n2", into(pod), "sh", "-c", "echo $SLURM_PROCID $(hostname)")[1]
    assert sorted(two.splitlines()) == [f"0 {name}", f"1 {name}"]
    # Another user of the pod's is the pod's, too: the step keeps its own.
    bounding = "grep CapBnd /proc/1/status /proc/self/status | cut -f2 | uniq | wc -l"
    assert srun(lab, into(pod), "sh", "-c", bounding)[1].strip() == "1"


@pytest.mark.claim("J11")
@pytest.mark.parametrize("engine", ENGINES)
def test_ends_are_told_as_kubernetes_tells_them(lab: Lab, engine: str) -> None:
    strict = {"runAsUser": 1000, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
    missing = 'exec: "nope": executable file not found in $PATH'
    expected: dict[str, tuple[list[str], dict[str, Any], tuple[int, str, str]]] = {
        "none": (["nope", "x"], {}, (128, "StartError", missing)),
        "path": (["/no/such"], {}, (128, "StartError", 'exec: "/no/such": No such file')),
        "text": (["/etc/passwd"], {}, (128, "StartError", 'exec: "/etc/passwd": Permission')),
        "kill": (["sh", "-c", "kill -9 $$$$"], {}, (137, "Error", "")),
        "user": (
            ["sh", "-c", 'test "$(id -u)" = 1000 && ! touch /x && exit 5'],
            {"securityContext": strict},
            (5, "Error", ""),
        ),
        "good": (["true"], {}, (0, "Completed", "")),
        "own": (["sh", "-c", "exit $$$$"], {}, (1, "Error", "")),
        # An image without a shell or anything else; its program ends at SIGTERM.
        "bare": (["/pause"], {"image": "registry.lab:5000/pause:3.10.2"}, (0, "Completed", "")),
    }
    names = {key: f"end-{key}-{engine}" for key in expected}
    one = {"resources": {"requests": {"cpu": "1", "memory": "64Mi"}}}
    pods.delete(lab, *names.values())
    made = [
        # Small enough for all of them, and the pods of the other tests, to run at once.
        make(names[key], *words, engine=engine, **(one | more))
        for key, (words, more, _) in expected.items()
    ]
    for each in made:
        if each["metadata"]["name"].startswith("end-own"):
            each["metadata"]["annotations"]["slurmlet.io/init"] = "false"
    pods.create(lab, *made)
    try:
        bare = pods.job_id(pods.wait_for_phase(lab, names.pop("bare"), "Running"))
        for key, name in names.items():
            done = pods.wait_for_phase(lab, name, "Failed", "Succeeded")
            state = done["status"]["containerStatuses"][0]["state"]["terminated"]
            code, reason, message = expected[key][2]
            assert (state["exitCode"], state["reason"]) == (code, reason), key
            assert message in state.get("message", ""), key
        lab.kubectl("alice", "delete", "pod", f"end-bare-{engine}", "--timeout=60s")
        pods.until(
            lambda: pods.squeue(lab, bare),
            lambda state: state not in ("RUNNING", "COMPLETING"),
            seconds=30,
            what="the end of the pod without a shell",
        )
    finally:
        pods.delete(lab, *names.values(), f"end-bare-{engine}")


@pytest.mark.claim("J11")
def test_stopping_a_container_stops_all_of_it(lab: Lab, running: dict[str, dict[str, Any]]) -> None:
    """The last one of this module: it deletes the pods."""

    def left() -> int:
        found = lab.run("c1", ["pgrep", "-fc", f"^sleep {MARK}$"], check=False)
        return int(found.stdout)

    assert left() == len(running)
    lab.kubectl("alice", "delete", "pod", *(p["metadata"]["name"] for p in running.values()))
    assert left() == 0
