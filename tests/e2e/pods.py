"""Pods of the tests, and what their Slurm side says."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tests.e2e.conftest import Lab

BUSYBOX = "registry.lab:5000/e2e-test-images/busybox:1.37.0-1"
JOB_ID = "status.slurmlet.io/job-id"
T = TypeVar("T")


def manifest(
    name: str,
    *command: str,
    annotations: Mapping[str, str] | None = None,
    container: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A pod of one busybox container that is not restarted."""
    main = {
        "name": "main",
        "image": BUSYBOX,
        "command": list(command),
        "resources": {"requests": {"cpu": "1", "memory": "64Mi"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": dict(annotations or {})},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "containers": [main | dict(container or {})],
            **spec,
        },
    }


def create(lab: Lab, *objects: Mapping[str, Any], user: str = "alice") -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    lab.kubectl(user, "create", "-f", "-", input=json.dumps(items))


def create_past_admission(
    lab: Lab, *wishes: tuple[Mapping[str, Any], Mapping[str, str]], user: str = "alice"
) -> None:
    """Pods with annotations that the webhook would deny and the scheduler leave unbound: they are
    gated, get their annotations while nobody judges them, and are bound by hand; agent and broker
    see everything then."""
    gated = [
        {**item, "spec": {**item["spec"], "schedulingGates": [{"name": "test/later"}]}}
        for item, _ in wishes
    ]
    create(lab, *gated, user=user)
    gone = json.dumps([{"op": "remove", "path": "/spec/schedulingGates"}])
    for item, annotations in wishes:
        name = item["metadata"]["name"]
        words = [f"{key}={value}" for key, value in annotations.items()]
        lab.kubectl(user, "annotate", "pod", name, *words)
        lab.kubectl(user, "patch", "pod", name, "--type=json", "-p", gone)
        bind(lab, name, namespace=user)


def bind(lab: Lab, name: str, *, namespace: str) -> None:
    """Bind a pod to the node, unless the scheduler was quicker."""
    target = {"apiVersion": "v1", "kind": "Node", "name": "slurm"}
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/binding"
    argv = ["create", "--raw", path, "-f", "-"]
    done = lab.kubectl("root", *argv, input=json.dumps(body), check=False)
    assert done.returncode == 0 or "is already assigned to node" in done.stderr, done.stderr


def get(lab: Lab, name: str, user: str = "alice") -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(lab.kubectl(user, "get", "pod", name, "-o", "json").stdout)
    return answer


def get_all(lab: Lab, names: Sequence[str], user: str = "alice") -> dict[str, dict[str, Any]]:
    """The pods of these names that exist."""
    items = json.loads(lab.kubectl(user, "get", "pods", "-o", "json").stdout)["items"]
    return {p["metadata"]["name"]: p for p in items if p["metadata"]["name"] in names}


def job_id(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(JOB_ID, ""))


def phase(pod: Mapping[str, Any]) -> str:
    return str(pod["status"].get("phase"))


def exit_code(pod: Mapping[str, Any]) -> int:
    return int(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"])


def wait_for_phase(lab: Lab, name: str, *phases: str, seconds: float = 120) -> dict[str, Any]:
    return until(
        lambda: get(lab, name), lambda pod: phase(pod) in phases, seconds=seconds, what=name
    )


def until(ask: Callable[[], T], good: Callable[[T], bool], *, seconds: float, what: str) -> T:
    """Ask every half second until the answer is good; kubectl and Slurm push no events to us."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if good(answer):
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s; last: {answer}")
        time.sleep(0.5)


def squeue(lab: Lab, job: str) -> str:
    """The job's state, as squeue has it, or an empty text."""
    argv = ["timeout", "30", "squeue", "-h", "-t", "all", "-j", job, "-o", "%T"]
    return lab.run("ctl", argv, check=False).stdout.strip()


def sacct(lab: Lab, job: str, fields: str) -> list[list[str]]:
    """Rows of a job without its steps; slurmdbd learns of it a moment after the end."""
    argv = ["timeout", "30", "sacct", "-X", "-n", "-P", "-j", job, "-o", fields]
    out = lab.run("ctl", argv).stdout
    return [line.split("|") for line in out.splitlines()]


def delete(lab: Lab, *names: str, user: str = "alice") -> None:
    lab.kubectl(user, "delete", "pod", *names, "--ignore-not-found", "--timeout=120s")
