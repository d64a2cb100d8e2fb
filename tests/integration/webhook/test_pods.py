"""What alice sees in kubectl of the admission of her pods, behind a real API server."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.tools.pod_fields import LIST, paths

Kubectl = Callable[..., str]
Apply = Callable[..., str]


def pod(
    *, annotations: dict[str, str] | None = None, container: Any = None, **spec: Any
) -> dict[str, Any]:
    main = {"name": "web", "image": "registry.lab:5000/web:1", **(container or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "annotations": annotations or {}},
        "spec": {"containers": [main], **spec},
    }


@pytest.fixture
def alice(webhook: object, kubectl: Kubectl) -> Iterator[Apply]:
    """alice(*arguments, of=OBJECT): kubectl as alice, with the object on standard input."""

    def run(*arguments: str, of: Any = None, fails: bool = False) -> str:
        stdin = json.dumps(of) if of is not None else ""
        return kubectl("alice", "-n", "alice", *arguments, stdin=stdin, fails=fails)

    yield run
    run("delete", "pod", "--all", "--force", "--grace-period=0")


@pytest.mark.claim("W30", "W33", "W48")
def test_every_reason_for_a_denial_is_in_one_message(alice: Apply) -> None:
    bad = pod(
        annotations={"slurmlet.io/time": "soon"},
        hostPID=True,
        volumes=[
            {"name": "home", "hostPath": {"path": "/home"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        ],
    )
    said = alice("apply", "-f", "-", of=bad, fails=True)
    assert (
        'admission webhook "pods.slurmlet.io" denied the request: (1) spec.hostPID: a pod' in said
    )
    assert "(2) spec.volumes[home].hostPath, spec.volumes[data].persistentVolumeClaim: volu" in said
    assert "(3) annotation slurmlet.io/time: value 'soon' is not valid for --time" in said
    assert "not found" in alice("get", "pod/web", fails=True)


@pytest.mark.claim("W101")
@pytest.mark.parametrize("apply", [("apply",), ("apply", "--server-side")], ids=" ".join)
@pytest.mark.parametrize(
    "spec",
    [
        {"tolerations": [{"key": "night", "operator": "Exists"}]},
        {"tolerations": [{"key": "node.kubernetes.io/not-ready", "tolerationSeconds": 30}]},
        {"schedulerName": "default-scheduler"},
        {"schedulerName": "slurm-bridge-scheduler"},
        {"nodeSelector": {"kubernetes.io/role": "agent"}},
        {"nodeSelector": {"kubernetes.io/role": "agent", "kubernetes.io/os": "linux"}},
    ],
    ids=["toleration", "seconds", "default", "scheduler", "selector", "selectors"],
)
def test_a_manifest_can_be_applied_again(
    alice: Apply, apply: tuple[str, ...], spec: dict[str, Any]
) -> None:
    """Of a pod the API server takes no scheduler, no selector and no toleration back."""
    manifest = pod(annotations={"note": "x"}, **spec)
    if "tolerations" in spec:
        manifest["spec"]["tolerations"][0].update(operator="Exists", effect="NoExecute")
    alice(*apply, "-f", "-", of=manifest)
    first = alice("get", "pod/web", "-o", "jsonpath={.metadata.resourceVersion}")
    alice(*apply, "-f", "-", of=manifest)
    assert alice("get", "pod/web", "-o", "jsonpath={.metadata.resourceVersion}") == first
    if "--server-side" in apply:
        alice(*apply, "--field-manager=other", "-f", "-", of=manifest)


@pytest.mark.claim("W38", "W39", "W40", "W41", "W42")
def test_what_is_ignored_is_a_warning_and_the_pod_is_made(alice: Apply, kubectl: Kubectl) -> None:
    high = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "high"},
        "value": 1000,
    }
    kubectl("admin", "apply", "-f", "-", stdin=json.dumps(high))
    container = {
        "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "ports": [{"name": "http", "containerPort": 80, "hostPort": 8080}],
        "tty": True,
    }
    said = alice("apply", "-f", "-", of=pod(container=container, priorityClassName="high"))
    for warning in (
        "Warning: spec.containers[web].livenessProbe: probes are not run",
        "Warning: spec.containers[web].lifecycle: hooks are not run",
        "Warning: spec.containers[web].ports[http].hostPort 8080: nothing forwards ports",
        "Warning: spec.containers[web].tty: nothing attaches to a container",
        "Warning: spec.priorityClassName high: Slurm has its own priorities",
    ):
        assert warning in said
    assert "pod/web created" in said


def test_what_the_api_server_writes_into_every_pod_is_no_cause_to_warn(alice: Apply) -> None:
    for network in (True, False):
        item = pod(container={"ports": [{"containerPort": 8080}]}, hostNetwork=network)
        assert alice("apply", "--dry-run=server", "-f", "-", of=item) == (
            "pod/web created (server dry run)\n"
        )


@pytest.mark.claim("W56", "W58")
def test_a_manifest_of_slurm_bridge_is_read(alice: Apply) -> None:
    prefix = "slurmjob.slinky.slurm.net/"
    keys = {"timelimit": "30", "cpu-per-task": "1500m", "mem-per-node": "1Gi", "exclusive": "false"}
    item = pod(annotations={prefix + name: value for name, value in keys.items()})
    said = alice("apply", "-f", "-", of=item)
    assert f"Warning: annotation {prefix}timelimit is deprecated; use slurmlet.io/time" in said
    path = "jsonpath={.metadata.annotations.status\\.slurmlet\\.io/request}"
    assert json.loads(alice("get", "pod/web", "-o", path)) == {
        "cpus-per-task": "2",
        "mem": "1024M",
        "time": "30",
    }
    root = pod(annotations={f"{prefix}user-id": "0"})
    root["metadata"]["name"] = "root"
    said = alice("apply", "-f", "-", of=root, fails=True)
    assert "user-id: '0': the administrator's identity map says which user runs the pods" in said


def test_the_list_of_fields_is_this_kubernetes(control_plane: object, kubectl: Kubectl) -> None:
    """What a newer release adds must be decided about (tests/tools/pod_fields.py)."""
    live = paths(json.loads(kubectl("admin", "get", "--raw", "/openapi/v3/api/v1")))
    assert live == LIST.read_text().split()
