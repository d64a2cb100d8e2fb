"""What the bootstrap command makes of a real API server, and who is asked then."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.webhook.conftest import Webhook

Kubectl = Callable[..., str]

SECONDS = 30
NOWHERE = ("--url", "https://127.0.0.1:1")
LABEL = "app.kubernetes.io/managed-by"
MUTATING = "mutatingwebhookconfiguration/slurmlet"
DRY = ("create", "--dry-run=server", "-o", "json", "-f", "-")


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "registry.lab/web:1"}]
    meta = {"name": name, "annotations": {"slurmlet.io/time": "5"}}
    spec = {"containers": containers, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def service(name: str = "web") -> dict[str, Any]:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def deployment(time: str) -> dict[str, Any]:
    labels = {"app": "web"}
    made = {**pod(), "metadata": {"labels": labels, "annotations": {"slurmlet.io/time": time}}}
    template = {key: made[key] for key in ("metadata", "spec")}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    meta = {"name": "web"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


@pytest.fixture
def alice(kubectl: Kubectl) -> Iterator[Kubectl]:
    def run(*arguments: str, of: Any = None, fails: bool | None = False) -> str:
        stdin = json.dumps(of) if of is not None else ""
        return kubectl("alice", "-n", "alice", *arguments, stdin=stdin, fails=fails)

    yield run
    run("delete", "services,pods,deployments", "--all", "--force", "--grace-period=0")


@pytest.fixture
def registered(webhook: Webhook, alice: Kubectl) -> Iterator[Callable[..., str]]:
    """registered(*arguments): the bootstrap command; afterwards all is as it was."""
    yield webhook.bootstrap
    webhook.bootstrap()
    until(lambda: alice(*DRY, of=service(), fails=None), '"clusterIP": "None"')


def until(ask: Callable[[], str], wanted: str) -> None:
    """The API server hears of configurations a moment later."""
    deadline = time.monotonic() + SECONDS
    while wanted not in (answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


@pytest.mark.claim("W84")
def test_registering_again_says_nothing_and_check_changes_nothing(
    webhook: Webhook, kubectl: Kubectl
) -> None:
    assert webhook.bootstrap() == ""
    assert webhook.bootstrap("--check", "--scope", "labelled", "--node", "other").splitlines() == [
        f"{kind}: would be {'changed: ' if field else 'created'}{field}"
        for kind, field in (
            (
                "ValidatingAdmissionPolicy bound-pods.slurmlet.io",
                "spec.matchConditions[on-our-node].expression",
            ),
            (
                "MutatingAdmissionPolicy defaults.slurmlet.io",
                "spec.matchConditions[by-a-scheduler-or-a-node-of-ours].expression",
            ),
            (
                "MutatingAdmissionPolicy defaults.slurmlet.io",
                "spec.matchConditions[not-a-daemon-elsewhere].expression",
            ),
            (
                "MutatingAdmissionPolicy defaults.slurmlet.io",
                "spec.matchConstraints.namespaceSelector.matchExpressions",
            ),
            ("MutatingAdmissionPolicy defaults-by-name.slurmlet.io", ""),
            ("MutatingAdmissionPolicyBinding defaults-by-name.slurmlet.io", ""),
            (
                "ValidatingWebhookConfiguration slurmlet",
                "webhooks[templates.slurmlet.io].namespaceSelector.matchExpressions",
            ),
            (
                "MutatingWebhookConfiguration slurmlet",
                "webhooks[services.slurmlet.io].namespaceSelector.matchExpressions",
            ),
            (
                "MutatingWebhookConfiguration slurmlet",
                "webhooks[pods.slurmlet.io].namespaceSelector.matchExpressions",
            ),
            ("MutatingWebhookConfiguration slurmlet", "webhooks[pods-by-name.slurmlet.io]"),
        )
    ]
    assert webhook.bootstrap("--check") == ""
    ignore = '[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]'
    kubectl("admin", "patch", MUTATING, "--type=json", "-p", ignore)
    kubectl("admin", "annotate", MUTATING, "note=kept")
    changed = "changed: webhooks[services.slurmlet.io].failurePolicy"
    assert webhook.bootstrap() == f"MutatingWebhookConfiguration slurmlet: {changed}\n"
    note = kubectl("admin", "get", MUTATING, "-o", "jsonpath={.metadata.annotations.note}")
    assert note == "kept"


@pytest.mark.claim("W84")
def test_what_is_ours_and_not_wanted_any_more_is_removed(
    webhook: Webhook, kubectl: Kubectl
) -> None:
    for name, managed_by in (("old.slurmlet.io", "slurmlet"), ("theirs.example.org", "Helm")):
        binding = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name, "labels": {LABEL: managed_by}},
            "spec": {"policyName": "no-such", "validationActions": ["Deny"]},
        }
        kubectl("admin", "create", "-f", "-", stdin=json.dumps(binding))
    said = "ValidatingAdmissionPolicyBinding old.slurmlet.io: "
    assert webhook.bootstrap("--check") == f"{said}would be removed\n"
    assert webhook.bootstrap() == f"{said}removed\n"
    kubectl("admin", "delete", "validatingadmissionpolicybinding/theirs.example.org")


@pytest.mark.claim("W84")
def test_a_service_in_front_of_it_is_called_by_name(
    registered: Callable[..., str], kubectl: Kubectl
) -> None:
    place = ("--service", "slurmlet-system/slurmlet-webhook:8443")
    assert registered(*place).count("clientConfig") == 6
    assert registered(*place) == ""
    path = "jsonpath={.webhooks[0].clientConfig.service}"
    assert json.loads(kubectl("admin", "get", MUTATING, "-o", path)) == {
        "namespace": "slurmlet-system",
        "name": "slurmlet-webhook",
        "port": 8443,
        "path": "/mutate",
    }


@pytest.mark.claim("W85")
def test_elsewhere_only_labelled_namespaces_and_pods_that_name_us_are_ours(
    registered: Callable[..., str], alice: Kubectl, kubectl: Kubectl
) -> None:
    def request(item: Any) -> str | None:
        made = json.loads(alice(*DRY, of=item))
        found: str | None = made["metadata"]["annotations"].get("status.slurmlet.io/request")
        return found

    registered("--scope", "labelled")
    until(lambda: json.loads(alice(*DRY, of=service()))["spec"].get("clusterIP", ""), "10.")
    assert request(pod()) is None
    assert request(pod(schedulerName="slurmlet-scheduler")) is not None
    assert request(pod(nodeName="slurm")) is not None
    assert request(pod(nodeName="real")) is None
    kubectl("admin", "label", "namespace/alice", "slurmlet.io/admission=enabled")
    try:
        until(lambda: alice(*DRY, of=service()), '"clusterIP": "None"')
        assert request(pod()) is not None
        kubectl(
            "admin", "label", "namespace/alice", "--overwrite", "slurmlet.io/admission=disabled"
        )
        named = pod(schedulerName="slurmlet-scheduler")
        until(lambda: str(request(named)), "None")
    finally:
        kubectl("admin", "label", "namespace/alice", "slurmlet.io/admission-")


@pytest.mark.claim("W86")
def test_a_webhook_that_is_away_holds_up_what_would_be_wrong_and_nothing_else(
    registered: Callable[..., str], alice: Kubectl, kubectl: Kubectl
) -> None:
    alice("create", "-f", "-", of=pod("old"))
    alice("create", "-f", "-", of=service("old"))
    registered(*NOWHERE)
    until(lambda: alice(*DRY, of=pod(), fails=None), 'failed calling webhook "pods.slurmlet.io"')
    assert 'failed calling webhook "services.slurmlet.io"' in alice(*DRY, of=service(), fails=True)
    # It is said of their pods, later.
    alice(*DRY, of=deployment("soon"))
    alice("label", "pod/old", "a=b")
    alice("annotate", "pod/old", "slurmlet.io/time=6", "--overwrite")
    finalizer = '-p={"metadata": {"finalizers": ["example.org/wait"]}}'
    alice("patch", "pod/old", finalizer)
    alice("delete", "pod/old", "--wait=false", "--grace-period=0", "--force")
    alice(
        "patch", "pod/old", "--type=json", '-p=[{"op": "remove", "path": "/metadata/finalizers"}]'
    )
    alice("wait", "--for=delete", "pod/old", f"--timeout={SECONDS}s")
    alice("delete", "service/old")
    for namespace in ("kube-system", "default"):
        wrong = 'failed calling webhook "services.slurmlet.io"'
        ours = namespace == "default"
        made = kubectl("admin", "-n", namespace, *DRY, stdin=json.dumps(service()), fails=ours)
        assert (wrong in made) is ours


@pytest.mark.claim("W86")
def test_elsewhere_it_holds_up_nothing_outside_labelled_namespaces(
    registered: Callable[..., str], alice: Kubectl
) -> None:
    registered("--scope", "labelled", *NOWHERE)
    until(lambda: alice(*DRY, of=service(), fails=None), '"clusterIP": "10.')
    for named in ({}, {"schedulerName": "slurmlet-scheduler"}, {"nodeName": "slurm"}):
        alice(*DRY, of=pod(**named))


@pytest.mark.claim("W87")
def test_of_later_changes_it_is_asked_only_where_slurmlets_annotations_change(
    webhook: Webhook, alice: Kubectl
) -> None:
    def asked() -> list[str]:
        lines = [json.loads(x) for x in webhook.log.read_text().splitlines() if x.startswith("{")]
        return [line["operation"] for line in lines if line["name"] == "watched"]

    alice("create", "-f", "-", of=pod("watched"))
    alice("label", "pod/watched", "a=b")
    alice("annotate", "pod/watched", "note=x", "slurmlet.io/mem=1G")
    assert asked() == ["CREATE"]
    alice("annotate", "pod/watched", "status.slurmlet.io/job-id=7", fails=None)
    assert asked() == ["CREATE", "UPDATE"]
    path = "jsonpath={.metadata.annotations.status\\.slurmlet\\.io/job-id}"
    assert alice("get", "pod/watched", "-o", path) == ""
