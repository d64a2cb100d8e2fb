"""What users change of a pod that exists, and what they cannot ask of its containers."""

import json
from collections.abc import Iterator

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab

WAITS, REFUSED = "updates-waits", "updates-rules"
RULES = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]


def waiting() -> dict[str, object]:
    """A pod that mounts a part of its volume that an annotation names."""
    where = {"fieldRef": {"fieldPath": "metadata.annotations['place']"}}
    return pods.manifest(
        WAITS,
        "sh",
        "-c",
        "touch /part/file; ls /whole/$PLACE",
        container={
            "env": [{"name": "PLACE", "valueFrom": where}],
            "volumeMounts": [
                {"name": "data", "mountPath": "/part", "subPathExpr": "$(PLACE)/below"},
                {"name": "data", "mountPath": "/whole"},
            ],
        },
        volumes=[{"name": "data", "emptyDir": {}}],
    )


@pytest.fixture(scope="module", autouse=True)
def created(lab: Lab) -> Iterator[None]:
    pods.delete(lab, WAITS)
    pods.create(lab, waiting())
    yield
    lab.kubectl("alice", "delete", "pod", WAITS, "--wait=false", "--ignore-not-found")


def reason(lab: Lab, name: str) -> str:
    """Why the pod's container waits."""
    found = pods.get(lab, name)["status"].get("containerStatuses") or [{}]
    return str(found[0].get("state", {}).get("waiting", {}).get("reason"))


@pytest.mark.claim("L41")
@pytest.mark.timeout(300)
def test_an_annotation_that_comes_late_lets_the_container_start(lab: Lab) -> None:
    pods.until(
        lambda: reason(lab, WAITS),
        lambda found: found == "CreateContainerConfigError",
        seconds=120,
        what="the container that cannot be made",
    )
    lab.kubectl("alice", "annotate", "pod", WAITS, "place=here")
    pods.wait_for_phase(lab, WAITS, "Succeeded")
    assert lab.kubectl("alice", "logs", WAITS).stdout.split() == ["below"]


@pytest.mark.claim("L42")
def test_containers_with_restart_rules_of_their_own_are_refused(lab: Lab) -> None:
    own_rules = {"restartPolicy": "Never", "restartPolicyRules": RULES}
    item = json.dumps(pods.manifest(REFUSED, "true", container=own_rules))
    refused = lab.kubectl("alice", "create", "-f", "-", input=item, check=False)
    assert refused.returncode != 0
    assert "spec.containers[main].restartPolicyRules: a container restarts as" in refused.stderr
    assert pods.get_all(lab, [REFUSED]) == {}, "it costs Slurm nothing"
