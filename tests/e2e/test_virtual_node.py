"""The virtual node tells what Slurm has, heeds a cordon, and comes back; and one per partition."""

import functools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab
from tests.e2e.playbooks import play

pytestmark = [pytest.mark.disruptive, pytest.mark.root]

LOOK_SECONDS = 90
"""The agent looks at Slurm's nodes once a minute."""
PER_PARTITION = {"slurmlet_nodes": "per-partition", "slurmlet_partitions": ["cpu", "debug"]}
NODES = ("slurm-cpu", "slurm-debug")


def node(lab: Lab, name: str = "slurm") -> dict[str, Any]:
    """The node, or nothing."""
    argv = ["get", "node", name, "-o", "json", "--ignore-not-found"]
    found: dict[str, Any] = json.loads(lab.kubectl("root", *argv).stdout or "{}")
    return found


def told(item: dict[str, Any], name: str) -> Any:
    return json.loads(item["metadata"]["annotations"][f"slurmlet.io/{name}"])


def partition_of(lab: Lab, job: str) -> str:
    argv = ["timeout", "30", "squeue", "-h", "-t", "all", "-j", job, "-o", "%P"]
    return lab.run("ctl", argv).stdout.strip()


def waiting_reason(pod: dict[str, Any]) -> str:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return str((statuses[0].get("state") or {}).get("waiting", {}).get("reason", ""))


def scontrol(lab: Lab, *words: str) -> None:
    lab.run("ctl", ["timeout", "30", "scontrol", *words])


@pytest.fixture
def runs(lab: Lab) -> Iterator[dict[str, Any]]:
    """A pod that runs."""
    name = "vnode-runs"
    pods.create(lab, pods.manifest(name, "sleep", "600"))
    yield pods.wait_for_phase(lab, name, "Running")
    pods.delete(lab, name)


@pytest.mark.claim("V6")
@pytest.mark.timeout(240)
def test_describing_the_node_shows_partitions_nodes_and_jobs(
    lab: Lab, runs: dict[str, Any]
) -> None:
    # It looks when it starts, and after that once a minute.
    lab.run("ctl", ["systemctl", "restart", "slurmlet-kubelet"])
    found = pods.until(
        lambda: node(lab),
        lambda item: told(item, "jobs").get("running") == 1,
        seconds=LOOK_SECONDS,
        what="jobs of ours",
    )
    limits = told(found, "partitions")
    assert limits["cpu"] == {"default": True, "maxMinutes": 1440, "nodes": 2, "up": True}
    assert limits["debug"]["maxMinutes"] == 30
    assert sum(told(found, "slurm-nodes").values()) == 2
    assert found["status"]["capacity"]["cpu"] == "32"
    described = lab.kubectl("root", "describe", "node", "slurm").stdout
    for words in ("slurmlet.io/partitions:", "slurmlet.io/slurm-nodes:", 'jobs: {"running": 1}'):
        assert words in described


@pytest.mark.claim("V1")
@pytest.mark.timeout(300)
def test_a_drained_node_is_not_allocatable(lab: Lab) -> None:
    scontrol(lab, "update", "nodename=c2", "state=drain", "reason=NodeName=c9 State=IDLE")
    try:
        found = pods.until(
            lambda: node(lab),
            lambda item: item["status"]["allocatable"]["cpu"] == "16",
            seconds=LOOK_SECONDS,
            what="allocatable without c2",
        )
        assert found["status"]["capacity"]["cpu"] == "32"
        assert told(found, "slurm-nodes")["drained"] == 1
    finally:
        scontrol(lab, "update", "nodename=c2", "state=resume")


@pytest.mark.claim("V8")
@pytest.mark.timeout(240)
def test_a_cordon_holds_back_what_is_bound_and_uncordon_lets_it_go_on(
    lab: Lab, runs: dict[str, Any]
) -> None:
    name = "vnode-cordoned"
    item = pods.manifest(name, "sleep", "600", nodeName="slurm")
    lab.kubectl("root", "cordon", "slurm")
    try:
        pods.create(lab, item)
        pods.until(
            lambda: waiting_reason(pods.get(lab, name)),
            lambda reason: reason == "NodeCordoned",
            seconds=30,
            what="the reason",
        )
        assert not pods.job_id(pods.get(lab, name))
        assert pods.squeue(lab, pods.job_id(runs)) == "RUNNING"
        lab.kubectl("root", "uncordon", "slurm")
        pods.until(lambda: pods.job_id(pods.get(lab, name)), bool, seconds=10, what="a job at once")
    finally:
        lab.kubectl("root", "uncordon", "slurm")
        pods.delete(lab, name)


@pytest.mark.claim("V7")
@pytest.mark.timeout(240)
def test_a_deleted_node_is_back_and_no_job_is_touched(lab: Lab, runs: dict[str, Any]) -> None:
    before = node(lab)["metadata"]["uid"]
    try:
        lab.kubectl("root", "delete", "node", "slurm", "--wait=false")
        deleted = time.monotonic()
        pods.until(
            lambda: node(lab).get("metadata", {}).get("uid", before),
            lambda uid: uid != before,
            seconds=10,
            what="the node",
        )
        print(f"back after {time.monotonic() - deleted:.1f} s")
        after = pods.get(lab, "vnode-runs")
        assert after["metadata"]["uid"] == runs["metadata"]["uid"]
        assert pods.squeue(lab, pods.job_id(runs)) == "RUNNING"
    finally:
        # It holds jobs of vanished pods for ten minutes now, which others do not expect.
        lab.run("ctl", ["systemctl", "restart", "slurmlet-kubelet"])


@pytest.fixture(scope="module")
def partitions(lab: Lab) -> Iterator[Lab]:
    """The lab with a node for each partition, rolled out; the one of all takes nothing new."""
    lab.kubectl("root", "cordon", "slurm")
    try:
        play(lab.name, "site", "--extra-vars", json.dumps(PER_PARTITION))
        yield lab
    finally:
        play(lab.name, "site")
        lab.kubectl("root", "delete", "node", *NODES, "--ignore-not-found")
        lab.kubectl("root", "uncordon", "slurm")


@pytest.mark.claim("V9")
@pytest.mark.timeout(900)
def test_each_partition_is_a_node(partitions: Lab) -> None:
    for name in NODES:
        found = pods.until(
            functools.partial(node, partitions, name),
            lambda item: "slurmlet.io/overlaps" in str(item),
            seconds=LOOK_SECONDS,
            what=name,
        )
        assert found["metadata"]["labels"]["slurmlet.io/partition"] == name.removeprefix("slurm-")
    described = partitions.kubectl("root", "describe", "node", "slurm-debug").stdout
    assert 'slurmlet.io/overlaps: {"cpu": ["c1", "c2"]}' in described
    leases = partitions.kubectl("root", "get", "leases", "-n", "kube-node-lease", "-o", "name")
    assert all(f"/{name}" in leases.stdout for name in NODES)


@pytest.mark.claim("V10")
@pytest.mark.claim("V12")
@pytest.mark.timeout(300)
def test_pods_land_in_the_partition_that_they_choose(partitions: Lab) -> None:
    key = "slurmlet.io/partition"
    expression = {"key": key, "operator": "In", "values": ["debug"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    command = ["sh", "-c", "echo here; sleep 600"]
    wishes = {
        "vnode-selects": (pods.manifest("vnode-selects", *command, nodeSelector={key: "debug"})),
        "vnode-affine": pods.manifest("vnode-affine", *command, affinity=affinity),
        "vnode-annotated": pods.manifest("vnode-annotated", *command, annotations={key: "debug"}),
        "vnode-silent": pods.manifest("vnode-silent", *command),
    }
    try:
        pods.create(partitions, *wishes.values())
        for name in wishes:
            wanted = "cpu" if name == "vnode-silent" else "debug"
            pod = pods.wait_for_phase(partitions, name, "Running")
            assert pod["spec"]["nodeName"] == f"slurm-{wanted}"
            assert partition_of(partitions, pods.job_id(pod)) == wanted
            # By way of that node's own port.
            assert partitions.kubectl("alice", "logs", name).stdout == "here\n"
    finally:
        pods.delete(partitions, *wishes)


@pytest.mark.claim("V11")
@pytest.mark.timeout(120)
def test_what_a_partitions_node_cannot_have_is_refused_with_the_numbers(partitions: Lab) -> None:
    resources = {"requests": {"cpu": "17", "memory": "64Mi"}}
    item = pods.manifest(
        "vnode-large",
        "true",
        container={"resources": resources},
        nodeSelector={"slurmlet.io/partition": "debug"},
    )
    done = partitions.kubectl("alice", "create", "-f", "-", input=json.dumps(item), check=False)
    assert done.returncode != 0
    assert "the largest node of partition debug has 16 CPUs" in done.stderr


@pytest.mark.claim("V12")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", [[], ["--server-side"]], ids=["client-side", "server-side"])
def test_a_manifest_can_be_applied_again(partitions: Lab, how: list[str]) -> None:
    """With a nodeSelector, which is one field to the API server, and which the webhook extends."""
    item = pods.manifest(
        "vnode-again",
        *("sleep", "600"),
        annotations={"slurmlet.io/partition": "debug"},
        nodeSelector={"kubernetes.io/os": "linux"},
    )
    apply = ["apply", *how, "-f", "-"]
    try:
        for said in ("created", "unchanged", "unchanged"):
            done = partitions.kubectl("alice", *apply, input=json.dumps(item))
            assert said in done.stdout or how
        pod = pods.wait_for_phase(partitions, "vnode-again", "Running")
        assert pod["spec"]["nodeName"] == "slurm-debug"
        assert pod["spec"]["nodeSelector"] == {
            "kubernetes.io/os": "linux",
            "slurmlet.io/partition": "debug",
        }
    finally:
        pods.delete(partitions, "vnode-again")
