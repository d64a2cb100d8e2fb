"""Why a pod is on no node, word for word as kubectl shows it in its condition and its event."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.tools.reasons import claimed

from slurmlet.controlplane.run import ControlPlane

Kubectl = Callable[..., str]
SECONDS = 30
WAIT = "--timeout=20s"
OURS = {"key": "slurmlet.io/slurm", "effect": "NoSchedule"}
TOLERATION = {"key": "slurmlet.io/slurm", "operator": "Exists"}
LARGEST = {
    "cpu": [{"cpu": "16", "memory": "64000Mi", "gres": {"gpu": "4"}}],
    "debug": [{"cpu": "4", "memory": "8000Mi", "gres": {}}],
    "mixed": [
        {"cpu": "15", "memory": "1000Mi", "gres": {}},
        {"cpu": "2", "memory": "9000Mi", "gres": {}},
    ],
}
AMOUNTS = {"cpu": "40", "memory": "136000Mi", "pods": "100", "example.com/fpga": "2"}
MESSAGE = 'jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}'
ONE = {"nodes": 1, "count": 1}


def pod(
    name: str,
    *,
    limits: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    main = {"name": "main", "image": "registry.lab:5000/web:1", "resources": {"limits": limits}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "schedulerName": "slurmlet-scheduler",
            "tolerations": [TOLERATION],
            "containers": [main],
            **spec,
        },
    }


@pytest.fixture(scope="module", autouse=True)
def scheduler(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    directory, pki = tmp_path_factory.mktemp("reasons"), control_plane.config.pki_dir
    config, log = directory / "slurmlet.toml", directory / "log"
    config.write_text(
        f'[scheduler]\nserver = "{control_plane.server}"\nca = "{pki}/ca.crt"\n'
        f'client_cert = "{pki}/scheduler.crt"\nclient_key = "{pki}/scheduler.key"\n'
        "metrics_port = 0\n"
    )
    command = [sys.executable, "-m", "slurmlet.scheduler", "--config", str(config)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    yield
    process.terminate()
    assert process.wait(timeout=SECONDS) == 0, log.read_text()


class Node:
    """The node `slurm`, as the agent would write it."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._marks = itertools.count()

    def create(self) -> None:
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": "slurm",
                "labels": {"type": "virtual-kubelet", "slurmlet.io/cluster": "test"},
                "annotations": {"slurmlet.io/largest": json.dumps(LARGEST)},
            },
        }
        self._kubectl("admin", "apply", "-f", "-", stdin=json.dumps(node))

    def amounts(self, amounts: dict[str, str], *, ready: str = "True") -> None:
        condition = {"type": "Ready", "status": ready, "reason": "Test"}
        status = {"capacity": amounts, "allocatable": amounts, "conditions": [condition]}
        patch = f"-p={json.dumps({'status': status})}"
        self._kubectl("admin", "patch", "node/slurm", "--subresource=status", patch)

    def change(self, **spec: Any) -> None:
        """Change it, and wait until the scheduler has seen that: it binds a pod for this mark."""
        mark = f"mark-{next(self._marks)}"
        patch = {"metadata": {"labels": {"mark": mark}}, "spec": spec}
        self._kubectl("admin", "patch", "node/slurm", "--type=merge", f"-p={json.dumps(patch)}")
        seen = pod(mark, tolerations=[{"operator": "Exists"}], nodeSelector={"mark": mark})
        self._kubectl("admin", "-n", "bob", "create", "-f", "-", stdin=json.dumps(seen))
        self._kubectl(
            "admin", "-n", "bob", "wait", "--for=condition=PodScheduled", f"pod/{mark}", WAIT
        )

    def delete(self) -> None:
        self._kubectl("admin", "delete", "node/slurm")
        self._kubectl("admin", "-n", "bob", "delete", "pod", "--all", "--force", "--grace-period=0")


@pytest.fixture
def changed_node(kubectl: Kubectl) -> Iterator[Node]:
    node = Node(kubectl)
    node.create()
    yield node
    node.delete()


@pytest.fixture(scope="module")
def ordinary_node(kubectl: Kubectl) -> Iterator[None]:
    node = Node(kubectl)
    node.create()
    node.amounts(AMOUNTS)
    node.change(taints=[OURS])
    yield
    node.delete()


@pytest.fixture
def told(kubectl: Kubectl) -> Iterator[Callable[..., str]]:
    """Creates a pod, and returns what its condition and its only event say."""

    def run(manifest: dict[str, Any], *, user: str = "alice", namespace: str = "alice") -> str:
        name = manifest["metadata"]["name"]

        def ask(*arguments: str) -> str:
            return kubectl(user, "-n", namespace, *arguments)

        kubectl(user, "-n", namespace, "create", "-f", "-", stdin=json.dumps(manifest))
        ask("wait", "--for=condition=PodScheduled=False", f"pod/{name}", WAIT)
        said = ask("get", f"pod/{name}", "-o", MESSAGE)
        uid = ask("get", f"pod/{name}", "-o", "jsonpath={.metadata.uid}")
        events = ("events", f"--field-selector=involvedObject.uid={uid},reason=FailedScheduling")
        ask("wait", "--for=create", *events, WAIT)
        assert ask("get", *events, "-o", "jsonpath={.items[*].message}") == said
        return said

    yield run
    for namespace in ("alice", "kube-system"):
        force = ("--all", "--force", "--grace-period=0")
        kubectl("admin", "-n", namespace, "delete", "pod", *force)


@pytest.mark.claim("K1")
def test_no_node(told: Callable[..., str]) -> None:
    assert told(pod("nowhere")) == claimed("K1")


@pytest.mark.claim("K2")
def test_a_pod_of_a_namespace_that_the_webhook_leaves_alone(
    told: Callable[..., str], changed_node: Node
) -> None:
    """Like one of a chart that is installed into kube-system: it names no scheduler."""
    changed_node.amounts(AMOUNTS)
    changed_node.change(taints=[OURS])
    chart = pod("dns", schedulerName="default-scheduler", tolerations=[])
    assert told(chart, user="admin", namespace="kube-system") == claimed("K2", **ONE)


@pytest.mark.claim("K3")
def test_a_taint_of_the_site(told: Callable[..., str], changed_node: Node) -> None:
    changed_node.amounts(AMOUNTS)
    changed_node.change(taints=[OURS, {"key": "gpu", "value": "a100", "effect": "NoSchedule"}])
    toleration = '{"key": "gpu", "value": "a100", "effect": "NoSchedule"}'
    assert told(pod("plain")) == claimed(
        "K3", taint="gpu=a100:NoSchedule", toleration=toleration, **ONE
    )


@pytest.mark.parametrize(
    ("ready", "key", "claim"),
    [
        pytest.param("Unknown", "unreachable", "K4", marks=pytest.mark.claim("K4")),
        pytest.param("False", "not-ready", "K17", marks=pytest.mark.claim("K17")),
    ],
)
def test_a_node_that_takes_no_pods_now(
    told: Callable[..., str],
    changed_node: Node,
    kubectl: Kubectl,
    ready: str,
    key: str,
    claim: str,
) -> None:
    # The API server taints every new node so, and a controller removes that from those ready.
    changed_node.amounts(AMOUNTS, ready=ready)
    taint = f'jsonpath={{.spec.taints[?(@.effect=="NoSchedule")].key}}=node.kubernetes.io/{key}'
    kubectl("admin", "wait", f"--for={taint}", "node/slurm", WAIT)
    changed_node.change()
    assert told(pod("away")) == claimed(claim, **ONE)


@pytest.mark.claim("K5")
def test_a_cordoned_node(told: Callable[..., str], changed_node: Node, kubectl: Kubectl) -> None:
    changed_node.amounts(AMOUNTS)
    changed_node.change(taints=[OURS], unschedulable=True)
    assert told(pod("late")) == claimed("K5", **ONE)
    kubectl("admin", "uncordon", "slurm")
    kubectl("alice", "-n", "alice", "wait", "--for=condition=PodScheduled", "pod/late", WAIT)


@pytest.mark.claim("K8")
def test_wishes_that_no_node_meets_together(
    told: Callable[..., str], changed_node: Node, kubectl: Kubectl
) -> None:
    labels = {"type": "virtual-kubelet", "slurmlet.io/cluster": "test", "zone": "a"}
    metadata = {"name": "other", "labels": labels}
    other = {"apiVersion": "v1", "kind": "Node", "metadata": metadata}
    kubectl("admin", "create", "-f", "-", stdin=json.dumps(other))
    try:
        kubectl("admin", "label", "node/slurm", "disk=ssd")
        changed_node.change()
        selector = {"disk": "ssd", "zone": "a"}
        said = told(pod("both", nodeSelector=selector, tolerations=[{"operator": "Exists"}]))
        fields = "spec.nodeSelector[disk] ssd, spec.nodeSelector[zone] a"
        assert said == claimed("K8", nodes=2, count=2, fields=fields)
    finally:
        kubectl("admin", "delete", "node/other")


@pytest.mark.claim("K10")
def test_a_resource_that_comes_later(
    told: Callable[..., str], changed_node: Node, kubectl: Kubectl
) -> None:
    changed_node.amounts(AMOUNTS)
    changed_node.change(taints=[OURS])
    wanted = {"resource": "example.com/foo", "resources": "example.com/fpga"}
    asking = pod("foo", limits={"example.com/foo": "1"})
    assert told(asking) == claimed("K10", **wanted, **ONE)
    changed_node.amounts({**AMOUNTS, "example.com/foo": "1"})
    kubectl("alice", "-n", "alice", "wait", "--for=condition=PodScheduled", "pod/foo", WAIT)


@pytest.mark.claim("K13", "K43")
def test_a_full_node(told: Callable[..., str], changed_node: Node, kubectl: Kubectl) -> None:
    changed_node.amounts({**AMOUNTS, "pods": "2"})
    # The pod that marks the change is one of the two.
    changed_node.change(taints=[OURS])
    kubectl("alice", "-n", "alice", "create", "-f", "-", stdin=json.dumps(pod("last")))
    kubectl("alice", "-n", "alice", "wait", "--for=condition=PodScheduled", "pod/last", WAIT)
    assert told(pod("full")) == claimed("K13", most=2, **ONE)
    kubectl("admin", "-n", "alice", "delete", "pod/last", "--force", "--grace-period=0")
    kubectl("alice", "-n", "alice", "wait", "--for=condition=PodScheduled", "pod/full", WAIT)


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
OTHER_ZONE = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}

ORDINARY: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("K6", pod("k6", nodeSelector={"disk": "ssd"}), {"fields": "spec.nodeSelector[disk] ssd"}),
    (
        "K6",
        pod("zone", affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [OTHER_ZONE]}}}),
        {"fields": "spec.affinity.nodeAffinity"},
    ),
    (
        "K7",
        pod("k7", nodeSelector={"slurmlet.io/partition": "gpu"}),
        {
            "field": "spec.nodeSelector[slurmlet.io/partition]",
            "partition": "gpu",
            "partitions": "cpu, debug, mixed",
        },
    ),
    (
        "K9",
        pod("cpu", limits={"cpu": "20"}),
        {"resource": "cpu", "counts": "20 CPUs", "most": "16 CPUs", "where": ""},
    ),
    (
        "K9",
        pod("partition", limits={"cpu": "5"}, nodeSelector={"slurmlet.io/partition": "debug"}),
        {
            "resource": "cpu",
            "counts": "5 CPUs",
            "most": "4 CPUs",
            "where": " of partition debug",
        },
    ),
    (
        "K9",
        pod("gpus", annotations={"slurmlet.io/gres": "gpu:5"}),
        {"resource": "gres/gpu", "counts": "5 gpu", "most": "4 gpu", "where": ""},
    ),
    (
        "K16",
        pod(
            "mixed",
            limits={"cpu": "4", "memory": "4000Mi"},
            nodeSelector={"slurmlet.io/partition": "mixed"},
        ),
        {
            "reasons": "1 Insufficient cpu, 1 Insufficient memory",
            "counts": "4 CPUs, 4000 MiB of memory",
            "where": " of partition mixed",
            "most": "15 CPUs, 1000 MiB of memory, or 2 CPUs, 9000 MiB of memory",
        },
    ),
    (
        "K11",
        pod("fpga", limits={"example.com/fpga": "3"}),
        {
            "resource": "example.com/fpga",
            "counts": "3 example.com/fpga",
            "most": "2 example.com/fpga",
        },
    ),
    (
        "K12",
        pod("pages", limits={"cpu": "1", "hugepages-2Mi": "4Mi"}),
        {"resource": "hugepages-2Mi"},
    ),
    (
        "K14",
        pod(
            "volume",
            volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        ),
        {"fields": "spec.volumes[data].persistentVolumeClaim"},
    ),
    (
        "K14",
        pod(
            "ephemeral",
            volumes=[{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": CLAIM}}}],
        ),
        {"fields": "spec.volumes[data].ephemeral"},
    ),
    (
        "K15",
        pod("device", resourceClaims=[{"name": "gpu", "resourceClaimName": "gpu"}]),
        {},
    ),
]


@pytest.mark.parametrize(
    ("number", "manifest", "values"),
    [
        pytest.param(
            *case, id=f"{case[1]['metadata']['name']}-{case[0]}", marks=pytest.mark.claim(case[0])
        )
        for case in ORDINARY
    ],
)
def test_what_the_pod_asks_for(
    told: Callable[..., str],
    ordinary_node: None,
    number: str,
    manifest: dict[str, Any],
    values: dict[str, str],
) -> None:
    assert told(manifest) == claimed(number, **values, **ONE)


@pytest.mark.claim("K23")
def test_what_machines_decide_keeps_no_pod_off(kubectl: Kubectl, ordinary_node: None) -> None:
    labels = {"matchLabels": {"app": "db"}}
    apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": labels}
    spread = {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", **apart}
    main = {"name": "main", "image": "x", "ports": [{"containerPort": 80, "hostPort": 80}]}
    for name in ("db-0", "db-1"):
        manifest = pod(
            name,
            containers=[main],
            affinity={"podAntiAffinity": {REQUIRED: [apart]}},
            topologySpreadConstraints=[spread],
        )
        manifest["metadata"]["labels"] = {"app": "db"}
        kubectl("alice", "-n", "alice", "create", "-f", "-", stdin=json.dumps(manifest))
    wait = ("wait", "--for=condition=PodScheduled", "pod", "-l", "app=db", WAIT)
    kubectl("alice", "-n", "alice", *wait)
    kubectl("alice", "-n", "alice", "delete", "pod", "--all", "--force", "--grace-period=0")
