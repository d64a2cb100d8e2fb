"""After all other tests: nobody ran a pod twice, and nothing of any pod is left."""

import json

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab, lab_command

USERS = ("alice", "bob")
NODES = {"c1": "c2", "c2": "c1"}


def everything(lab: Lab) -> list[str]:
    items = json.loads(lab.kubectl("root", "get", "pods", "-A", "-o", "json").stdout)["items"]
    return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in items]


def pods_jobs(lab: Lab) -> list[str]:
    """Jobs that are called as a pod's, and are not over."""
    lines = lab.run("ctl", ["timeout", "30", "squeue", "-h", "-o", "%i %j"]).stdout.splitlines()
    return [line for line in lines if line.count("/") == 2]


@pytest.fixture(scope="module")
def empty(lab: Lab) -> None:
    """A last pod of each user on each node, which removes what killed ones left; then none."""
    controllers = ["delete", "deployments,jobs,statefulsets,daemonsets,replicasets", "--all", "-A"]
    lab.kubectl("root", *controllers, "--wait=false")
    names = [f"last-{node}" for node in NODES]
    for user in USERS:
        lab.kubectl(user, "delete", "pod", *names, "--ignore-not-found", "--timeout=60s")
        last = [
            pods.manifest(
                f"last-{node}", "true", annotations={"slurmlet.io/flags": f"--exclude={other}"}
            )
            for node, other in NODES.items()
        ]
        pods.create(lab, *last, user=user)
    for user in USERS:
        for name in names:
            wait = ["wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}"]
            lab.kubectl(user, *wait, "--timeout=240s", timeout=260)
    lab.kubectl("root", "delete", "pods", "--all", "-A", "--wait=false")
    pods.until(lambda: everything(lab), lambda left: not left, seconds=240, what="no pod")
    pods.until(lambda: pods_jobs(lab), lambda left: not left, seconds=120, what="no job of a pod")


@pytest.mark.last
@pytest.mark.disruptive
@pytest.mark.claim("L30")
@pytest.mark.timeout(1200)
def test_nobody_ran_a_pod_twice_and_nothing_is_left(lab: Lab, empty: None) -> None:
    done = lab_command("verify", "--name", lab.name, timeout=600)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
