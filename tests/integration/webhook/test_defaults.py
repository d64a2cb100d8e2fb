"""What pods get of their namespace's annotations in the API server, before the webhook sees them.

All namespaces are made with their annotations: of a change the API server's cache hears later.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.webhook.conftest import Webhook

Kubectl = Callable[..., str]
pytestmark = pytest.mark.usefixtures("namespaces")

SECONDS = 30
REQUEST = "status.slurmlet.io/request"
GIVING, WRONG, BARE, ASIDE = "giving", "wrong", "bare", "aside"
NAMESPACES: dict[str, dict[str, Any]] = {
    GIVING: {
        "annotations": {
            "slurmlet.io/time": "5",
            "slurmlet.io/partition": "debug",
            "slurmlet.io/init": "false",
            "slurmlet.io/note": "no key of ours",
            "example.org/note": "x",
        }
    },
    WRONG: {"annotations": {"slurmlet.io/time": "soon"}},
    BARE: {},
    ASIDE: {
        "annotations": {"slurmlet.io/time": "5"},
        "labels": {"slurmlet.io/admission": "disabled"},
    },
}
GIVEN = {
    "ns.slurmlet.io/time": "5",
    "ns.slurmlet.io/partition": "debug",
    "ns.slurmlet.io/init": "false",
}


def pod(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "registry.lab/web:1"}]
    meta: dict[str, Any] = {"name": "web"}
    if annotations is not None:
        meta["annotations"] = annotations
    spec = {"containers": containers, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def daemon(node: str) -> dict[str, Any]:
    """As its controller makes it."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    made = pod(affinity=affinity)
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "1"}
    made["metadata"]["ownerReferences"] = [owner]
    return made


@pytest.fixture(scope="module")
def namespaces(webhook: Webhook, kubectl: Kubectl) -> Iterator[None]:
    """The namespaces, with the policy in force."""
    for name, meta in NAMESPACES.items():
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **meta}}
        kubectl("admin", "create", "-f", "-", stdin=json.dumps(namespace))
    for name in NAMESPACES:
        wait = ("wait", "--for=create", "sa/default", f"--timeout={SECONDS}s")
        kubectl("admin", "-n", name, *wait)
    until(lambda: "ns.slurmlet.io/time" in made(kubectl, pod()))
    yield
    kubectl("admin", "delete", "namespace", "--wait=false", *NAMESPACES)


def until(holds: Callable[[], bool]) -> None:
    """The API server hears of policies a moment later."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def made(kubectl: Kubectl, of: Any, namespace: str = GIVING) -> dict[str, str]:
    """The annotations of a pod that is created for a try."""
    dry = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    # Warnings come before the object.
    output = kubectl("admin", "-n", namespace, *dry, stdin=json.dumps(of))
    item = json.loads(output[output.index("{\n") :])
    found: dict[str, str] = item["metadata"].get("annotations") or {}
    return found


def defaults(annotations: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key.startswith("ns.")}


def asked(annotations: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = json.loads(annotations[REQUEST])
    return found


@pytest.mark.claim("W19")
@pytest.mark.parametrize("own", [None, {}, {"example.org/note": "y"}])
def test_a_pod_gets_what_its_namespace_has(kubectl: Kubectl, own: dict[str, str] | None) -> None:
    found = made(kubectl, pod(own))
    assert found == {**(own or {}), **GIVEN, REQUEST: found[REQUEST]}
    assert asked(found)["time"] == "5"
    assert asked(found)["partition"] == "debug"


@pytest.mark.claim("W19")
def test_the_pods_own_key_wins(kubectl: Kubectl) -> None:
    found = made(kubectl, pod({"slurmlet.io/time": "9"}))
    assert defaults(found) == GIVEN
    assert asked(found)["time"] == "9"
    assert asked(found)["partition"] == "debug"


@pytest.mark.claim("W19")
def test_without_defaults_a_pod_stays_as_it_is(kubectl: Kubectl) -> None:
    assert made(kubectl, pod(), BARE).keys() == {REQUEST}
    own = {"slurmlet.io/time": "9", "example.org/note": "y"}
    assert made(kubectl, pod(own), BARE).keys() == {*own, REQUEST}


@pytest.mark.claim("W19")
@pytest.mark.parametrize("apply", [("apply",), ("apply", "--server-side")])
def test_applying_a_pod_again_changes_nothing(kubectl: Kubectl, apply: tuple[str, ...]) -> None:
    def run(*arguments: str, of: Any = None) -> str:
        return kubectl("admin", "-n", GIVING, *arguments, stdin=json.dumps(of) if of else "")

    version = ("get", "pod/web", "-o", "jsonpath={.metadata.resourceVersion}")
    try:
        run(*apply, "-f", "-", of=pod())
        before = run(*version)
        run(*apply, "-f", "-", of=pod())
        assert run(*version) == before
        found = json.loads(run("get", "pod/web", "-o", "json"))["metadata"]["annotations"]
        assert defaults(found) == GIVEN
    finally:
        run("delete", "pod/web", "--force", "--grace-period=0")


@pytest.mark.claim("W19")
@pytest.mark.parametrize(
    ("of", "ours"),
    [
        (pod(schedulerName="slurmlet-scheduler"), True),
        (pod(schedulerName="slurm-bridge-scheduler"), True),
        (pod(nodeName="slurm", schedulerName="theirs"), True),
        (daemon("slurm"), True),
        (pod(schedulerName="theirs"), False),
        (pod(nodeName="real"), False),
        (daemon("real"), False),
        (pod({"kubernetes.io/config.mirror": "x"}, nodeName="slurm"), False),
    ],
)
def test_pods_of_others_stay_as_they_are(kubectl: Kubectl, of: dict[str, Any], ours: bool) -> None:
    found = made(kubectl, of)
    assert (REQUEST in found) is ours
    assert defaults(found) == (GIVEN if ours else {})


@pytest.mark.claim("W19")
def test_a_namespace_that_is_switched_off_gives_nothing(kubectl: Kubectl) -> None:
    assert made(kubectl, pod(), ASIDE) == {}


@pytest.mark.claim("W19")
def test_a_pod_of_many_annotations_gets_them_too(kubectl: Kubectl) -> None:
    many = {f"k{number}": "" for number in range(40_000)}
    assert defaults(made(kubectl, pod(many))) == GIVEN


@pytest.mark.claim("W20")
def test_a_default_that_is_no_value_refuses_the_pod_by_its_name(kubectl: Kubectl) -> None:
    create = ("-n", WRONG, "create", "-f", "-")
    said = kubectl("admin", *create, stdin=json.dumps(pod()), fails=True)
    assert "annotation ns.slurmlet.io/time: value 'soon' is not valid for --time" in said


@pytest.mark.claim("W20")
def test_what_a_user_writes_for_his_namespace_is_made_true(kubectl: Kubectl) -> None:
    forged = {
        "ns.slurmlet.io/time": "99",
        "ns.slurmlet.io/qos": "high",
        "ns.slurmlet.io/flags": "--qos=high",
    }
    found = made(kubectl, pod(forged))
    assert defaults(found) == GIVEN
    assert "qos" not in asked(found)
    assert asked(found)["time"] == "5"
    assert made(kubectl, pod(forged), BARE).keys() == {REQUEST}


@pytest.mark.claim("W84")
def test_it_is_registered_once_and_put_back(webhook: Webhook, kubectl: Kubectl) -> None:
    assert webhook.bootstrap() == ""
    name = "mutatingadmissionpolicy/defaults.slurmlet.io"
    ignore = '{"spec": {"failurePolicy": "Ignore"}}'
    kubectl("admin", "patch", name, "--type=merge", "-p", ignore)
    changed = "MutatingAdmissionPolicy defaults.slurmlet.io: changed: spec.failurePolicy\n"
    assert webhook.bootstrap() == changed
    assert webhook.bootstrap() == ""


@pytest.mark.claim("W19")
def test_on_a_shared_cluster_pods_that_name_us_get_them(webhook: Webhook, kubectl: Kubectl) -> None:
    named = pod(schedulerName="slurmlet-scheduler")
    try:
        webhook.bootstrap("--scope", "labelled")
        until(lambda: made(kubectl, pod()) == {})
        until(lambda: defaults(made(kubectl, named)) == GIVEN)
    finally:
        said = webhook.bootstrap().splitlines()
    assert "MutatingAdmissionPolicyBinding defaults-by-name.slurmlet.io: removed" in said
    assert "MutatingAdmissionPolicy defaults-by-name.slurmlet.io: removed" in said
    until(lambda: defaults(made(kubectl, pod())) == GIVEN)
