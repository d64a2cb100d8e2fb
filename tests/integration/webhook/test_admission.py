"""What alice sees of the webhook behind a real API server."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.webhook.conftest import Webhook

from slurmlet.contracts.policy import Snapshot, encode
from slurmlet.contracts.request import RequestPolicy

Kubectl = Callable[..., str]
pytestmark = pytest.mark.usefixtures("webhook")


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 8080}], **spec},
    }


def pod(annotations: dict[str, str] | None = None) -> dict[str, Any]:
    container = {
        "name": "web",
        "image": "registry.lab:5000/web:1",
        "resources": {"requests": {"cpu": "1500m"}, "limits": {"memory": "64Mi"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "annotations": annotations or {}},
        "spec": {"containers": [container]},
    }


@pytest.fixture
def alice(kubectl: Kubectl) -> Iterator[Callable[..., str]]:
    """alice(*arguments, of=OBJECT): kubectl as alice, with the object on standard input."""

    def run(*arguments: str, of: Any = None, fails: bool = False) -> str:
        stdin = json.dumps(of) if of is not None else ""
        return kubectl("alice", "-n", "alice", *arguments, stdin=stdin, fails=fails)

    yield run
    run("delete", "service,deployment,pod", "--all", "--force", "--grace-period=0")


def spec_of(alice: Kubectl, name: str = "service/web") -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(alice("get", name, "-o", "json"))["spec"]
    return spec


def test_a_plain_service_gets_no_address_and_can_be_applied_again(alice: Kubectl) -> None:
    assert "Warning" not in alice("apply", "-f", "-", of=service())
    assert spec_of(alice)["clusterIP"] == "None"
    assert spec_of(alice)["clusterIPs"] == ["None"]
    assert "unchanged" in alice("apply", "-f", "-", of=service())
    assert "configured" in alice("apply", "-f", "-", of=service(ports=[{"port": 9090}]))
    assert spec_of(alice)["clusterIP"] == "None"


def test_server_side_apply_is_stable(alice: Kubectl) -> None:
    alice("apply", "--server-side", "-f", "-", of=service())
    before = alice("get", "service/web", "-o", "jsonpath={.metadata.resourceVersion}")
    alice("apply", "--server-side", "-f", "-", of=service())
    assert alice("get", "service/web", "-o", "jsonpath={.metadata.resourceVersion}") == before
    assert spec_of(alice)["clusterIP"] == "None"


def test_dual_stack_and_portless_services_become_headless_too(alice: Kubectl) -> None:
    alice("apply", "-f", "-", of=service("dual", ipFamilyPolicy="PreferDualStack"))
    assert spec_of(alice, "service/dual")["clusterIP"] == "None"


def test_an_asked_for_address_is_said(alice: Kubectl) -> None:
    item = service(clusterIP="10.96.77.77", ports=[{"port": 80, "targetPort": 8080}])
    said = alice("apply", "-f", "-", of=item)
    assert "10.96.77.77 was replaced by None" in said
    assert spec_of(alice)["clusterIP"] == "None"


@pytest.mark.parametrize("namespace", ["kube-system", "quiet"])
def test_namespaces_that_are_not_ours_keep_addresses(kubectl: Kubectl, namespace: str) -> None:
    quiet = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "quiet", "labels": {"slurmlet.io/admission": "disabled"}},
    }
    kubectl("admin", "apply", "-f", "-", stdin=json.dumps(quiet))
    kubectl("admin", "-n", namespace, "apply", "-f", "-", stdin=json.dumps(service("plain")))
    path = "jsonpath={.spec.clusterIP}"
    address = kubectl("admin", "-n", namespace, "get", "service/plain", "-o", path)
    kubectl("admin", "-n", namespace, "delete", "service/plain")
    assert address.startswith("10.96.")


def test_the_api_servers_own_service_keeps_its_address(kubectl: Kubectl) -> None:
    path = "jsonpath={.spec.clusterIP}"
    assert kubectl("admin", "get", "service/kubernetes", "-o", path) == "10.96.0.1"


def test_a_pod_shows_what_it_will_ask_of_slurm(alice: Kubectl) -> None:
    said = alice("apply", "-f", "-", of=pod({"slurm.hpk.io/flags": "--time=5"}))
    assert "deprecated; use slurmlet.io/flags" in said
    item = json.loads(alice("get", "pod/web", "-o", "json"))
    request = json.loads(item["metadata"]["annotations"]["status.slurmlet.io/request"])
    assert request == {"cpus-per-task": "2", "mem": "128M", "time": "5"}
    assert item["spec"]["schedulerName"] == "slurmlet-scheduler"
    tolerations = {t["key"]: t for t in item["spec"]["tolerations"]}
    assert tolerations["slurmlet.io/slurm"]["effect"] == "NoSchedule"
    assert "tolerationSeconds" not in tolerations["node.kubernetes.io/unreachable"]
    assert "tolerationSeconds" not in tolerations["node.kubernetes.io/not-ready"]


def test_a_bad_annotation_is_refused_with_its_name_value_and_remedy(alice: Kubectl) -> None:
    said = alice("apply", "-f", "-", of=pod({"slurmlet.io/flags": "--uid=0"}), fails=True)
    assert 'admission webhook "pods.slurmlet.io" denied the request' in said
    assert "annotation slurmlet.io/flags: option --uid is not allowed" in said
    said = alice("apply", "-f", "-", of=pod({"slurmlet.io/time": "soon"}), fails=True)
    assert "annotation slurmlet.io/time: value 'soon' is not valid" in said


def test_pods_of_a_deployment_pass_the_same_way(alice: Kubectl) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod()["spec"]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    alice("apply", "-f", "-", of=deployment)
    alice("wait", "--for=create", "pod", "-l", "app=web", "--timeout=20s")
    path = "jsonpath={.items[0].metadata.annotations.status\\.slurmlet\\.io/request}"
    request = json.loads(alice("get", "pods", "-l", "app=web", "-o", path))
    assert request["cpus-per-task"] == "2"


def test_each_decision_is_one_json_line(webhook: Webhook, alice: Kubectl) -> None:
    alice("apply", "-f", "-", of=service("logged"))
    lines = [json.loads(x) for x in webhook.log.read_text().splitlines() if x.startswith("{")]
    (line,) = [x for x in lines if x["name"] == "logged" and x["operation"] == "CREATE"]
    assert (line["user"], line["namespace"], line["allowed"]) == ("alice", "alice", True)


@pytest.mark.claim("W93")
def test_what_the_agent_publishes_counts_and_what_cannot_be_read_changes_nothing(
    webhook: Webhook, alice: Kubectl
) -> None:
    def memory() -> str:
        path = "jsonpath={.metadata.annotations.status\\.slurmlet\\.io/request}"
        item = {**pod(), "spec": {"containers": [{"name": "web", "image": "x"}]}}
        said = alice("create", "--dry-run=server", "-f", "-", "-o", path, of=item)
        return str(json.loads(said)["mem"])

    def publish(text: str) -> None:
        partial = webhook.policy.with_suffix(".new")
        partial.write_text(text)
        partial.replace(webhook.policy)

    def wait_for(line: str) -> None:
        deadline = time.monotonic() + 20
        while line not in webhook.log.read_text():
            assert time.monotonic() < deadline, webhook.log.read_text()
            time.sleep(0.05)

    assert memory() == "320M", "our defaults"
    wait_for("No such file or directory; nothing is known")
    request = RequestPolicy(default_memory=1000, pod_overhead_memory=0)
    publish(encode(Snapshot(written=time.time(), request=request)))
    wait_for(f"policy snapshot {webhook.policy}: in use again")
    assert memory() == "1000M"
    for text, why in (("{", "no policy snapshot"), ('{"version": 9}', "policy.version: 9")):
        publish(text)
        wait_for(why)
        assert memory() == "1000M"
    webhook.policy.unlink()
