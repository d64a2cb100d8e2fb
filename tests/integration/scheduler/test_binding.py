"""What alice and a site admin see of the scheduler on a real API server, under its own identity."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.scheduler.process import NODE, READY, Scheduler, pod

from slurmlet.controlplane.run import ControlPlane

Kubectl = Callable[..., str]
WAIT = "--timeout=20s"


@pytest.fixture(scope="module")
def scheduler(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scheduler]:
    running = Scheduler(tmp_path_factory.mktemp("scheduler"), control_plane)
    running.start()
    try:
        yield running
    finally:
        assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def node(kubectl: Kubectl) -> Iterator[None]:
    kubectl("admin", "apply", "-f", "-", stdin=json.dumps(NODE))
    patch = f"-p={json.dumps(READY)}"
    kubectl("admin", "patch", "node/slurm", "--subresource=status", "--type=merge", patch)
    # The API server taints every new node, and the controller looks only every few seconds.
    taints = f"-p={json.dumps({'spec': NODE['spec']})}"
    kubectl("admin", "patch", "node/slurm", "--type=merge", taints)
    yield
    kubectl("admin", "delete", "node/slurm")


@pytest.fixture
def alice(kubectl: Kubectl, scheduler: Scheduler) -> Iterator[Callable[..., str]]:
    def run(*arguments: str, of: Any = None) -> str:
        stdin = json.dumps(of) if of is not None else ""
        return kubectl("alice", "-n", "alice", *arguments, stdin=stdin)

    yield run
    run("delete", "pod", "--all", "--force", "--grace-period=0")


def test_a_pod_is_bound_and_its_author_can_see_it(alice: Kubectl, node: None) -> None:
    alice("apply", "-f", "-", of=pod("web"))
    alice("wait", "--for=condition=PodScheduled", "pod/web", WAIT)
    assert alice("get", "pod/web", "-o", "jsonpath={.spec.nodeName}") == "slurm"
    selector = "--field-selector=involvedObject.name=web,reason=Scheduled"
    alice("wait", "--for=create", "events", selector, WAIT)
    assert "Successfully assigned alice/web to slurm" in alice("get", "events", selector)


def test_a_pod_that_names_no_scheduler_is_bound_too(alice: Kubectl, node: None) -> None:
    alice("apply", "-f", "-", of=pod("plain", schedulerName="default-scheduler"))
    alice("wait", "--for=condition=PodScheduled", "pod/plain", WAIT)


def test_a_pod_that_fits_nowhere_says_why_and_is_bound_once_it_fits(
    alice: Kubectl, kubectl: Kubectl, node: None
) -> None:
    alice("apply", "-f", "-", of=pod("gpu", nodeSelector={"slurmlet.io/partition": "gpu"}))
    alice("wait", "--for=condition=PodScheduled=False", "pod/gpu", WAIT)
    path = 'jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}'
    said = alice("get", "pod/gpu", "-o", path)
    assert said.startswith("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity")
    assert "no such partition; use cpu, debug" in alice("describe", "pod/gpu")
    kubectl("admin", "annotate", "node/slurm", "--overwrite", 'slurmlet.io/largest={"gpu": {}}')
    alice("wait", "--for=condition=PodScheduled", "pod/gpu", WAIT)


def test_a_gated_pod_waits_for_its_gate(alice: Kubectl, node: None) -> None:
    alice("apply", "-f", "-", of=pod("gated", schedulingGates=[{"name": "example.org/quota"}]))
    alice("apply", "-f", "-", of=pod("after"))
    alice("wait", "--for=condition=PodScheduled", "pod/after", WAIT)
    assert alice("get", "pod/gated", "-o", "jsonpath={.spec.nodeName}") == ""
    alice(
        "patch", "pod/gated", "--type=json", '-p=[{"op":"remove","path":"/spec/schedulingGates"}]'
    )
    alice("wait", "--for=condition=PodScheduled", "pod/gated", WAIT)


def test_pods_wait_for_a_node_and_for_a_scheduler_that_was_killed(
    alice: Kubectl, scheduler: Scheduler, request: pytest.FixtureRequest
) -> None:
    alice("apply", "-f", "-", of=pod("early"))
    alice("wait", "--for=condition=PodScheduled=False", "pod/early", WAIT)
    scheduler.kill()
    alice("apply", "-f", "-", of=pod("meanwhile"))
    request.getfixturevalue("node")
    scheduler.start()
    alice("wait", "--for=condition=PodScheduled", "pod/early", "pod/meanwhile", WAIT)
