"""What is said of objects that make pods, on the real API server, and what of them goes on when the
policy has changed under them."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.webhook.conftest import Webhook

from slurmlet.contracts.identity import Identity, IdentityMap
from slurmlet.contracts.policy import Snapshot, encode

Kubectl = Callable[..., str]
pytestmark = pytest.mark.usefixtures("webhook")

SECONDS = 30
SWITCH = "slurmlet.io/admission"
GOOD, BAD = {"slurmlet.io/time": "5"}, {"slurmlet.io/time": "soon"}
SAID = "annotation slurmlet.io/time: value 'soon' is not valid for --time; see sbatch(1)"
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "trainings.batch.example.org"},
    "spec": {
        "group": "batch.example.org",
        "names": {"kind": "Training", "plural": "trainings"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def template(annotations: dict[str, str], **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "registry.lab/web:1"}
    metadata = {"labels": {"app": "web"}, "annotations": annotations}
    return {"metadata": metadata, "spec": {"containers": [container], **spec}}


def workload(kind: str, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """One named web, of a kind that makes pods, with what a kind requires."""
    once = {"restartPolicy": "Never"} if kind in ("Job", "CronJob") else {}
    made = template(annotations or {}, **once)
    body: dict[str, Any] = {"template": made, **spec}
    if kind == "CronJob":
        body = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": body}}
    elif kind != "Job":
        body["selector"] = {"matchLabels": {"app": "web"}}
        if kind == "DaemonSet":
            made["spec"]["tolerations"] = [{"key": "slurmlet.io/slurm", "operator": "Exists"}]
        if kind == "StatefulSet":
            body["serviceName"] = "web"
    group = "batch/v1" if kind in ("Job", "CronJob") else "apps/v1"
    return {"apiVersion": group, "kind": kind, "metadata": {"name": "web"}, "spec": body}


@pytest.fixture
def alice(kubectl: Kubectl) -> Iterator[Kubectl]:
    def run(*arguments: str, of: Any = None, fails: bool | None = False) -> str:
        stdin = json.dumps(of) if of is not None else ""
        return kubectl("alice", "-n", "alice", *arguments, stdin=stdin, fails=fails)

    yield run
    kinds = "deployments,statefulsets,daemonsets,replicasets,jobs,cronjobs,pods"
    run("delete", kinds, "--all", "--force", "--grace-period=0")


@pytest.fixture
def grandfathered(kubectl: Kubectl, alice: Kubectl) -> None:
    """A Deployment with two revisions, each of them bad, that was made before anybody looked."""
    kubectl("admin", "label", "namespace/alice", f"{SWITCH}=disabled")
    try:
        probe = ("create", "--dry-run=server", "-f", "-")
        _until(lambda: alice(*probe, of=workload("Deployment", BAD), fails=None), "created")
        alice("apply", "-f", "-", of=workload("Deployment", {"slurmlet.io/time": "later"}))
        alice("apply", "-f", "-", of=workload("Deployment", BAD))
        alice("wait", "--for=jsonpath={.status.observedGeneration}=2", "deployment/web")
    finally:
        kubectl("admin", "label", "namespace/alice", f"{SWITCH}-")
    again = workload("Deployment", BAD)
    again["metadata"]["name"] = "again"
    _until(lambda: alice(*probe, of=again, fails=None), SAID)


def _until(ask: Callable[[], str], wanted: str) -> None:
    """The API server hears of labels and configurations a moment later."""
    deadline = time.monotonic() + SECONDS
    while wanted not in (answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


@pytest.fixture
def publish(webhook: Webhook, alice: Kubectl) -> Iterator[Callable[..., None]]:
    """publish(*ACCOUNTS): what the administrator's map permits alice from now on."""
    probe = ("create", "--dry-run=server", "-f", "-")

    def run(*accounts: str) -> None:
        identities = IdentityMap(namespaces={"alice": Identity(user="alice", accounts=accounts)})
        known = Snapshot(written=time.time(), identities=identities if accounts else None)
        webhook.policy.write_text(encode(known))
        other = workload("Deployment", {"slurmlet.io/account": "other"})
        other["metadata"]["name"] = "probe"
        said = f"use {', '.join(accounts)}" if accounts else "created"
        _until(lambda: alice(*probe, of=other, fails=None), said)

    yield run
    run()


KINDS = {
    "Deployment": "spec.template",
    "StatefulSet": "spec.template",
    "ReplicaSet": "spec.template",
    "Job": "spec.template",
    "CronJob": "spec.jobTemplate.spec.template",
}


@pytest.mark.claim("W77")
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_template_is_refused_when_it_is_made(alice: Kubectl, kind: str) -> None:
    output = alice("create", "-f", "-", of=workload(kind, BAD), fails=True)
    assert f'"templates.slurmlet.io" denied the request: {KINDS[kind]}: {SAID}' in output


@pytest.mark.claim("W77")
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"Job"}))
def test_and_when_a_good_one_is_changed(alice: Kubectl, kind: str) -> None:
    assert "Warning" not in alice("apply", "-f", "-", of=workload(kind, GOOD))
    output = alice("apply", "-f", "-", of=workload(kind, BAD), fails=True)
    assert f"{KINDS[kind]}: {SAID}" in output
    assert "configured" in alice("apply", "-f", "-", of=workload(kind, {}))


@pytest.mark.claim("W77")
def test_a_daemon_set_is_warned_of_where_it_comes_to_us(alice: Kubectl) -> None:
    daemons = workload("DaemonSet", BAD)
    assert f"Warning: spec.template: {SAID}" in alice("create", "-f", "-", of=daemons)
    alice("delete", "daemonset/web")
    del daemons["spec"]["template"]["spec"]["tolerations"]
    assert "Warning" not in alice("create", "-f", "-", of=daemons)


@pytest.mark.claim("W78")
@pytest.mark.usefixtures("grandfathered")
def test_what_became_invalid_stays_usable(alice: Kubectl) -> None:
    assert "Warning" not in alice("scale", "deployment/web", "--replicas=2")
    # As the HPA does.
    replicas = '{"spec": {"replicas": 3}}'
    alice("patch", "deployment/web", "--subresource=scale", "--type=merge", "-p", replicas)
    alice("patch", "deployment/web", "-p", '{"spec": {"replicas": 1}}')
    alice("annotate", "deployment/web", "note=x")
    alice("label", "deployment/web", "a=b")
    rolled = alice("rollout", "undo", "deployment/web")
    assert "Warning: spec.template: annotation slurmlet.io/time: value 'later'" in rolled
    path = "jsonpath={.spec.template.metadata.annotations}"
    assert json.loads(alice("get", "deployment/web", "-o", path)) == {"slurmlet.io/time": "later"}
    # A mistake that it did not have is refused still.
    worse = '{"spec": {"template": {"metadata": {"annotations": {"slurmlet.io/mem": "much"}}}}}'
    output = alice("patch", "deployment/web", "-p", worse, fails=True)
    assert "denied the request: spec.template: annotation slurmlet.io/mem: value 'much'" in output
    alice("delete", "deployment/web", "--cascade=foreground", f"--timeout={SECONDS}s")
    assert "not found" in alice("get", "deployment/web", fails=True)


@pytest.mark.claim("W78")
def test_a_map_that_shrinks_stops_no_deployment(
    alice: Kubectl, publish: Callable[..., None]
) -> None:
    publish("phys", "bio", "chem")
    alice("apply", "-f", "-", of=workload("Deployment", {"slurmlet.io/account": "phys"}))
    second = {"slurmlet.io/account": "bio", "slurmlet.io/time": "5"}
    alice("apply", "-f", "-", of=workload("Deployment", second))
    publish("chem")
    said = (
        "annotation slurmlet.io/account: account {!r} is not permitted to this namespace; use chem"
    )
    assert "Warning" not in alice("scale", "deployment/web", "--replicas=2")
    replicas = '{"spec": {"replicas": 3}}'
    alice("patch", "deployment/web", "--subresource=scale", "--type=merge", "-p", replicas)
    alice("annotate", "deployment/web", "note=x")
    rolled = alice("rollout", "undo", "deployment/web")
    assert f"Warning: spec.template: {said.format('phys')}" in rolled
    other = workload("Deployment", second)
    other["metadata"]["name"] = "other"
    refused = alice("create", "-f", "-", of=other, fails=True)
    assert f"spec.template: {said.format('bio')}" in refused
    alice("delete", "deployment/web", "--cascade=foreground", f"--timeout={SECONDS}s")


@pytest.mark.claim("W78")
@pytest.mark.usefixtures("grandfathered")
def test_its_replica_sets_are_the_controllers_business(alice: Kubectl) -> None:
    one = alice("get", "replicasets", "-o", "jsonpath={.items[0].metadata.name}")
    bad = '{"spec": {"template": {"metadata": {"annotations": {"slurmlet.io/mem": "much"}}}}}'
    assert "Warning" not in alice("patch", f"replicaset/{one}", "-p", bad)


@pytest.mark.claim("W78")
@pytest.mark.parametrize("owners", [1, 200])
def test_a_controller_is_seen_among_any_number_of_owners(alice: Kubectl, owners: int) -> None:
    item = workload("ReplicaSet", BAD)
    references = [
        {"apiVersion": "example.org/v1", "kind": "App", "name": "a", "uid": f"{number}"}
        for number in range(owners)
    ]
    item["metadata"]["ownerReferences"] = references
    create = ("create", "--dry-run=server", "-f", "-")
    assert "denied the request" in alice(*create, of=item, fails=True)
    references[-1]["controller"] = True  # type: ignore[assignment]
    assert "created" in alice(*create, of=item)


@pytest.mark.claim("W79")
@pytest.mark.parametrize(("kind", "at"), [("Job", "spec"), ("CronJob", "spec.jobTemplate.spec")])
def test_a_jobs_own_deadline_counts_the_queue(alice: Kubectl, kind: str, at: str) -> None:
    job = workload(kind, activeDeadlineSeconds=600)
    assert (
        f"Warning: {at}.activeDeadlineSeconds: 600 seconds, in which waiting in Slurm's queue"
        f" counts; use {at}.template.spec.activeDeadlineSeconds to limit how long a pod runs"
    ) in alice("apply", "-f", "-", of=job)
    job["metadata"]["annotations"] = {"note": "x"}
    assert "Warning" not in alice("apply", "-f", "-", of=job)


@pytest.mark.claim("W80")
def test_so_does_a_short_time_for_a_rollout(alice: Kubectl) -> None:
    assert "Warning" not in alice("apply", "-f", "-", of=workload("Deployment"))
    short = workload("Deployment", progressDeadlineSeconds=60)
    assert (
        "Warning: spec.progressDeadlineSeconds: 60 seconds, in which waiting in Slurm's queue"
        " counts; use a longer time, or the rollout is called failed meanwhile"
    ) in alice("apply", "-f", "-", of=short)


@pytest.mark.claim("W81")
def test_annotations_beside_the_template_have_no_effect(alice: Kubectl) -> None:
    misplaced = workload("Deployment")
    misplaced["metadata"]["annotations"] = {"slurmlet.io/partition": "debug"}
    assert (
        "Warning: metadata.annotations[slurmlet.io/partition]: 'debug' has no effect on a"
        " Deployment; move it to spec.template.metadata.annotations"
    ) in alice("apply", "-f", "-", of=misplaced)
    alice("scale", "deployment/web", "--replicas=0")
    said = alice("annotate", "deployment/web", "slurmlet.io/time=5")
    assert "metadata.annotations[slurmlet.io/time]: '5' has no effect on a Deployment" in said
    assert "slurmlet.io/partition" not in said


@pytest.mark.claim("W82")
def test_pods_of_another_scheduler_are_not_ours(alice: Kubectl) -> None:
    other = workload("Job", BAD, activeDeadlineSeconds=600)
    other["spec"]["template"]["spec"]["schedulerName"] = "volcano"
    assert "Warning" not in alice("create", "-f", "-", of=other)
    bound = workload("Deployment", BAD)
    bound["spec"]["template"]["spec"]["nodeName"] = "worker1"
    assert "Warning" not in alice("create", "-f", "-", of=bound)


@pytest.mark.claim("W83")
def test_custom_resources_that_the_site_names(kubectl: Kubectl) -> None:
    kubectl("admin", "apply", "-f", "-", stdin=json.dumps(CRD))
    name = "customresourcedefinition/trainings.batch.example.org"
    try:
        kubectl("admin", "wait", "--for=condition=established", name, f"--timeout={SECONDS}s")
        groups = [{"template": template(GOOD)}, {"template": template(BAD)}]
        training = {
            "apiVersion": "batch.example.org/v1",
            "kind": "Training",
            "metadata": {"name": "net"},
            "spec": {"groups": groups},
        }
        create = ("-n", "alice", "create", "-f", "-")
        output = kubectl("admin", *create, stdin=json.dumps(training), fails=True)
        assert f"denied the request: spec.groups[1].template: {SAID}" in output
        groups.pop()
        kubectl("admin", *create, stdin=json.dumps(training))
        head = json.dumps({"head-node": {"pod": template(BAD)}})
        change = ("-n", "alice", "patch", "training/net", "--type=merge", "-p", head)
        assert f"denied the request: head-node.pod: {SAID}" in kubectl("admin", *change, fails=True)
    finally:
        kubectl("admin", "delete", name)
