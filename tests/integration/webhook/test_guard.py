"""What the policies refuse inside the API server, as whom, and what goes on undisturbed.

The namespace `aside` is switched off for the webhook: there nobody but the policies can refuse.
"""

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from slurmlet.controlplane.run import ControlPlane

Kubectl = Callable[..., str]
Patch = Callable[..., tuple[int, str]]
pytestmark = pytest.mark.usefixtures("webhook", "world")

SECONDS = 30
ASIDE, OURS, REAL = "aside", "slurm", "real"
JOB, TIME = "status.slurmlet.io/job-id", "slurmlet.io/time"
WHO = {
    "alice": ("alice", ()),
    "administrator": ("admin", ("system:masters",)),
    "agent": ("system:node:slurm", ("system:nodes",)),
    "kubelet": ("system:node:real", ("system:nodes",)),
    "pretender": ("system:node:slurm", ("system:masters",)),
    "scheduler": ("system:kube-scheduler", ()),
}
"""User and groups; the kubelet is that of another node."""
ALLOWED = {
    ("alice", ""),
    ("administrator", ""),
    ("administrator", "status"),
    ("pretender", ""),
    ("pretender", "status"),
    ("scheduler", "status"),
}
"""Whom the API server lets write a pod at all, if it were not for the policies."""
RESIZED = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "2"}}}]}}
WORLD = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {ASIDE}, labels: {{slurmlet.io/admission: disabled}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: alice-edits, namespace: {ASIDE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: alice}}]
---
apiVersion: v1
kind: Node
metadata: {{name: {OURS}}}
---
apiVersion: v1
kind: Node
metadata: {{name: {REAL}}}
"""


def pod(
    name: str = "web", *, node: str = "", annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    resources = {"requests": {"cpu": "1"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {
            "containers": [{"name": "main", "image": "registry.lab/web:1", "resources": resources}],
            **({"nodeName": node} if node else {}),
        },
    }


def annotated(key: str, value: str | None) -> dict[str, Any]:
    return {"metadata": {"annotations": {key: value}}}


@pytest.fixture(scope="module")
def world(kubectl: Kubectl) -> Iterator[None]:
    """Two nodes, of which one is ours, and a namespace without a webhook; the policies are on."""
    kubectl("admin", "apply", "-f", "-", stdin=WORLD)
    # Upstream resizes no pod beyond its node.
    room = json.dumps({"status": {"allocatable": {"cpu": "8", "memory": "8Gi"}}})
    for node in (OURS, REAL):
        kubectl("admin", "patch", f"node/{node}", "--subresource=status", "-p", room)
    for namespace in (ASIDE, "kube-system"):
        wait = ("wait", "--for=create", "sa/default", f"--timeout={SECONDS}s")
        kubectl("admin", "-n", namespace, *wait)
    deadline = time.monotonic() + SECONDS
    forged = json.dumps(pod("probe", annotations={JOB: "1"}))
    create = ("-n", ASIDE, "create", "--dry-run=server", "-f", "-")
    while "denied request" not in kubectl("admin", *create, stdin=forged, fails=None):
        assert time.monotonic() < deadline, "the policies are not in force"
        time.sleep(0.2)
    yield
    kubectl("admin", "delete", f"namespace/{ASIDE}", f"node/{OURS}", f"node/{REAL}")


@pytest.fixture
def k(kubectl: Kubectl) -> Iterator[Kubectl]:
    """k(*arguments, who=WHO's, of=OBJECT, fails=False): kubectl in the namespace aside."""

    def run(
        *arguments: str, who: str = "administrator", of: Any = None, fails: bool = False
    ) -> str:
        stdin = json.dumps(of) if of is not None else ""
        user, groups = WHO[who]
        as_them = (f"--as={user}", *(f"--as-group={group}" for group in groups))
        return kubectl("admin", "-n", ASIDE, *as_them, *arguments, stdin=stdin, fails=fails)

    yield run
    run("delete", "pods,jobs", "--all", "--force", "--grace-period=0")


@pytest.fixture
def patch(control_plane: ControlPlane) -> Patch:
    """patch(WHO, subresource, body, of="aside/web"): a strategic merge patch of a pod, and the
    answer. kubectl would read the subresource first, which a node may not."""
    config = control_plane.config
    context = ssl.create_default_context(cafile=str(config.pki_dir / "ca.crt"))
    context.load_cert_chain(config.pki_dir / "admin.crt", config.pki_dir / "admin.key")

    def run(who: str, subresource: str, body: Any, of: str = f"{ASIDE}/web") -> tuple[int, str]:
        namespace, name = of.split("/")
        user, groups = WHO[who]
        connection = http.client.HTTPSConnection(
            "127.0.0.1", config.secure_port, context=context, timeout=SECONDS
        )
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/{subresource}".rstrip("/")
        with closing(connection):
            connection.putrequest("PATCH", path)
            content = json.dumps(body).encode()
            for header, value in (
                ("Content-Type", "application/strategic-merge-patch+json"),
                ("Content-Length", str(len(content))),
                ("Impersonate-User", user),
                *(("Impersonate-Group", group) for group in groups),
            ):
                connection.putheader(header, value)
            connection.endheaders(content)
            response = connection.getresponse()
            answer = json.loads(response.read())
        return response.status, answer.get("message", "")

    return run


@pytest.fixture
def bound(k: Kubectl, patch: Patch) -> None:
    """A pod on our node, of which the agent has said its job."""
    k("create", "-f", "-", of=pod(node=OURS, annotations={TIME: "5"}))
    assert patch("agent", "status", annotated(JOB, "7")) == (200, "")


def annotations(k: Kubectl, name: str = "pod/web") -> dict[str, str]:
    found: dict[str, str] = json.loads(k("get", name, "-o", "json"))["metadata"]["annotations"]
    return found


def bind(
    k: Kubectl,
    name: str,
    *,
    path: str = "pods/NAME/binding",
    annotations: dict[str, str] | None = None,
    fails: bool = False,
) -> str:
    """Binds a pod to our node, as the scheduler."""
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "annotations": annotations},
        "target": {"apiVersion": "v1", "kind": "Node", "name": OURS},
    }
    url = f"/api/v1/namespaces/{ASIDE}/{path.replace('NAME', name)}"
    return k("create", "--raw", url, "-f", "-", of=binding, who="scheduler", fails=fails)


def said(output: str) -> str:
    """The sentence of a denial."""
    assert output.count("denied request: ") == 1, output
    return output.partition("denied request: ")[2].strip()


@pytest.mark.claim("W70")
def test_nobody_creates_a_pod_with_what_slurmlet_says(k: Kubectl) -> None:
    forged = pod(annotations={JOB: "7"})
    assert said(k("create", "-f", "-", of=forged, who="alice", fails=True)) == (
        'metadata.annotations[status.slurmlet.io/job-id]: cannot be set to "7", because only'
        " slurmlet writes what is below status.slurmlet.io/; leave that annotation to slurmlet"
    )
    # The webhook puts it there, after it removed what the user wrote.
    k("create", "-f", "-", of=pod(annotations={"status.slurmlet.io/request": "{}"}))


@pytest.mark.claim("W70")
def test_that_holds_where_nothing_else_of_ours_does(kubectl: Kubectl) -> None:
    forged = json.dumps(pod("forged", annotations={JOB: "7"}))
    create = ("-n", "kube-system", "create", "-f", "-")
    assert "only slurmlet writes" in said(kubectl("admin", *create, stdin=forged, fails=True))


@pytest.mark.claim("W71")
@pytest.mark.parametrize("namespace", ["alice", "kube-system"])
def test_it_holds_in_every_namespace(kubectl: Kubectl, patch: Patch, namespace: str) -> None:
    create = ("-n", namespace, "create", "-f", "-")
    kubectl("admin", *create, stdin=json.dumps(pod("forged", node=OURS)))
    try:
        status, message = patch(
            "administrator", "status", annotated(JOB, "7"), f"{namespace}/forged"
        )
        assert status == 403
        assert "only slurmlet writes" in said(message)
    finally:
        delete = ("delete", "pod/forged", "--force", "--grace-period=0")
        kubectl("admin", "-n", namespace, *delete)


@pytest.mark.claim("W71")
@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("who", sorted(WHO.keys() - {"agent"}))
@pytest.mark.parametrize("subresource", ["", "status"])
def test_nobody_but_the_agent_changes_it(
    k: Kubectl, patch: Patch, who: str, subresource: str
) -> None:
    for value, change in (("8", 'set to "8"'), (None, "removed")):
        status, message = patch(who, subresource, annotated(JOB, value))
        assert status == 403
        if (who, subresource) in ALLOWED:
            assert said(message) == (
                f"metadata.annotations[status.slurmlet.io/job-id]: cannot be {change}, because"
                " only slurmlet writes what is below status.slurmlet.io/; leave that annotation"
                " to slurmlet"
            )
    assert annotations(k)[JOB] == "7"


@pytest.mark.claim("W71")
@pytest.mark.usefixtures("bound")
def test_a_key_that_nobody_knows_is_slurmlets_too(k: Kubectl) -> None:
    output = k("annotate", "pod/web", "status.slurmlet.io/x=a\nb", who="alice", fails=True)
    assert 'status.slurmlet.io/x]: cannot be set to "a\\nb"' in said(output)


@pytest.mark.claim("W76")
@pytest.mark.usefixtures("bound")
def test_the_agent_writes_its_annotations_and_status(k: Kubectl, patch: Patch) -> None:
    running = {
        "metadata": {"annotations": {JOB: "8", "status.slurmlet.io/job-state": "RUNNING"}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert patch("agent", "status", running) == (200, "")
    assert annotations(k)[JOB] == "8"
    assert patch("agent", "status", annotated(JOB, None)) == (200, "")
    assert JOB not in annotations(k)


@pytest.mark.claim("W76")
@pytest.mark.usefixtures("bound")
def test_other_keys_labels_and_finalizers_are_everybodys(k: Kubectl) -> None:
    k("annotate", "pod/web", "note=x", "example.org/slurmlet.io=y", who="alice")
    k("label", "pod/web", "slurmlet.io/note=x", who="alice")
    finalizer = json.dumps({"metadata": {"finalizers": ["example.org/wait"]}})
    k("patch", "pod/web", "-p", finalizer, who="alice")
    k("delete", "pod/web", "--grace-period=0", "--force", "--wait=false", who="agent")
    none = '[{"op": "remove", "path": "/metadata/finalizers"}]'
    k("patch", "pod/web", "--type=json", "-p", none, who="alice")
    k("wait", "--for=delete", "pod/web", f"--timeout={SECONDS}s")


@pytest.mark.claim("W76")
def test_a_pod_on_another_node_is_left_alone(k: Kubectl, patch: Patch) -> None:
    k("create", "-f", "-", of=pod(node=REAL, annotations={TIME: "5"}))
    running = {"status": {"phase": "Running"}, "metadata": {"annotations": {"note": "x"}}}
    assert patch("kubelet", "status", running) == (200, "")
    k("annotate", "pod/web", "--overwrite", "slurmlet.io/time=6", who="alice")
    assert patch("administrator", "resize", RESIZED) == (200, "")
    k("debug", "pod/web", "--image=registry.lab/tools:1", "--attach=false", "-c", "debug")
    k("delete", "pod/web", "--grace-period=0", "--force", who="kubelet")


@pytest.mark.claim("W76")
def test_a_job_runs_to_its_end_and_goes_in_the_foreground(k: Kubectl, patch: Patch) -> None:
    template = {"spec": {**pod()["spec"], "restartPolicy": "Never"}}
    template["metadata"] = {"annotations": {TIME: "5"}}
    spec = {"template": template, "backoffLimit": 0}
    meta = {"name": "sum"}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}
    k("create", "-f", "-", of=job, who="alice")
    k("wait", "--for=create", "pod", "-l", "job-name=sum", f"--timeout={SECONDS}s")
    name = k("get", "pods", "-l", "job-name=sum", "-o", "jsonpath={.items[0].metadata.name}")
    bind(k, name)
    done = {"metadata": {"annotations": {JOB: "9"}}, "status": {"phase": "Succeeded"}}
    assert patch("agent", "status", done, f"{ASIDE}/{name}") == (200, "")
    # The controller removes its finalizer from the pod before it calls the job complete.
    k("wait", "--for=condition=complete", "job/sum", f"--timeout={SECONDS}s")
    k("delete", "job/sum", "--cascade=foreground", f"--timeout={SECONDS}s", who="alice")
    assert "not found" in k("get", f"pod/{name}", fails=True)


@pytest.mark.claim("W72")
@pytest.mark.parametrize("key", [JOB, "slurmlet.io/time", "ns.slurmlet.io/time"])
@pytest.mark.parametrize("path", ["pods/NAME/binding", "bindings"])
def test_a_binding_brings_no_annotation_of_ours(k: Kubectl, key: str, path: str) -> None:
    k("create", "-f", "-", of=pod())
    output = bind(k, "web", path=path, annotations={key: "5"}, fails=True)
    assert said(output) == (
        f'metadata.annotations[{key}]: cannot be set to "5" by a binding, because the pod was'
        " admitted without it; bind the pod without that annotation"
    )
    bind(k, "web", path=path, annotations={"example.org/note": "x"})
    item = json.loads(k("get", "pod/web", "-o", "json"))
    assert item["spec"]["nodeName"] == OURS
    assert item["metadata"]["annotations"]["example.org/note"] == "x"


@pytest.mark.claim("W73")
@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("who", ["alice", "administrator"])
def test_what_a_pod_asks_for_is_fixed_once_it_is_bound(k: Kubectl, patch: Patch, who: str) -> None:
    asks = {
        "slurmlet.io/time": ("6", 'set to "6"'),
        "ns.slurmlet.io/qos": ("high", 'set to "high"'),
        "slurm.hpk.io/flags": ("--time=9", 'set to "--time=9"'),
        "slurmlet.io/anything": ("x" * 200, f'set to "{"x" * 60}..."'),
    }
    for key, (value, change) in asks.items():
        status, message = patch(who, "", annotated(key, value))
        assert status == 403
        assert said(message) == (
            f"metadata.annotations[{key}]: cannot be {change}, because a pod keeps what it asks of"
            " Slurm once it is bound to node slurm; delete and re-create the pod"
        )
    assert "cannot be removed" in said(
        k("annotate", "pod/web", "slurmlet.io/time-", who=who, fails=True)
    )
    assert annotations(k)[TIME] == "5"


@pytest.mark.claim("W73")
def test_before_that_it_can_change(k: Kubectl) -> None:
    k("create", "-f", "-", of=pod(annotations={TIME: "5"}), who="alice")
    k("annotate", "pod/web", "--overwrite", "slurmlet.io/time=6", who="alice")
    bind(k, "web")
    assert "cannot be set" in said(
        k("annotate", "pod/web", "--overwrite", "slurmlet.io/time=7", fails=True)
    )


@pytest.mark.claim("W74")
@pytest.mark.usefixtures("bound")
def test_a_pod_on_our_node_is_not_resized(patch: Patch) -> None:
    assert said(patch("administrator", "resize", RESIZED)[1]) == (
        "spec.containers[main].resources: cannot change on node slurm, because Slurm cannot change"
        " the size of a job; delete and re-create the pod with the resources that it needs"
    )


@pytest.mark.claim("W75")
@pytest.mark.usefixtures("bound")
def test_a_pod_on_our_node_gets_no_ephemeral_container(k: Kubectl) -> None:
    arguments = ("debug", "pod/web", "--image=registry.lab/tools:1", "-c", "debug")
    assert said(k(*arguments, "--attach=false", fails=True)) == (
        "spec.ephemeralContainers[debug]: cannot be added on node slurm, which does not run such"
        " containers yet; run a step in the pod: srun --k8s-pod=aside/web"
    )


@pytest.mark.claim("W76")
@pytest.mark.parametrize(
    "many",
    [{"large": "x" * 255_000}, {f"k{number}": "" for number in range(40_000)}],
    ids=["one-large", "many-small"],
)
def test_annotations_of_256_kib_cost_little(k: Kubectl, patch: Patch, many: dict[str, str]) -> None:
    """CEL needs quadratic time to walk over many: each of these would outlast its timeout."""
    k("create", "-f", "-", of=pod(node=OURS, annotations=many), who="alice")
    assert patch("alice", "", {"metadata": {"labels": {"a": "b"}}}) == (200, "")
    assert patch("alice", "", annotated("note", "x")) == (200, "")
    assert patch("agent", "status", annotated(JOB, "7")) == (200, "")
    assert "only slurmlet writes" in said(patch("alice", "", annotated(JOB, "8"))[1])
    assert "a pod keeps what it asks" in said(patch("alice", "", annotated(TIME, "8"))[1])


@pytest.mark.claim("W76")
def test_expressions_fit_the_types_that_they_are_about(kubectl: Kubectl) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        items = json.loads(kubectl("admin", "get", "validatingadmissionpolicies", "-o", "json"))
        found = {
            i["metadata"]["name"]: i.get("status", {}).get("typeChecking") for i in items["items"]
        }
        if None not in found.values():
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    assert found == {
        "status.slurmlet.io": {},
        "bound-pods.slurmlet.io": {},
        "bindings.slurmlet.io": {},
    }
