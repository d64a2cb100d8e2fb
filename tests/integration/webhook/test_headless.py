"""The golden files of Services, decided by the webhook and by policies on a real API server."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from tests.integration.webhook.conftest import SECONDS, Webhook
from tests.integration.webhook.makers import MAKERS, serve, warnings
from tests.unit.webhook import goldenfiles

Kubectl = Callable[..., str]
NOT_HERE = {
    "W2-both-families": "this cluster has one",
    "W7-the-api-server": "it is there before any test",
    "W8-an-address-from-before": "made where nobody is asked, see test_services.py",
}
_OF_ONE = ("uid", "resourceVersion", "creationTimestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a request: the object without what differs each time, or why it is refused."""

    item: Mapping[str, Any]
    warnings: tuple[str, ...]
    refused: str = ""


def files() -> list[Path]:
    return [path for path in goldenfiles.files("services") if stem(path) not in NOT_HERE]


def stem(path: Path) -> str:
    return path.name.removesuffix(".in.yaml")


@pytest.fixture(scope="module")
def answers(webhook: Webhook, kubectl: Kubectl) -> dict[str, dict[str, Answer]]:
    """By maker and golden file."""
    found: dict[str, dict[str, Answer]] = {maker: {} for maker in MAKERS}
    for maker in MAKERS:
        for without_network in (False, True):
            some = [path for path in files() if _without_network(path) is without_network]
            serve(maker, webhook, kubectl, pod_network=False if without_network else None)
            for path in some:
                found[maker][stem(path)] = _ask(path, kubectl)
    return found


def _without_network(path: Path) -> bool:
    return "pod_network: false" in path.read_text()


def _ask(path: Path, kubectl: Kubectl) -> Answer:
    request = yaml.safe_load(path.read_text())

    def write(verb: str, item: dict[str, Any], *, fails: bool | None = False) -> str:
        return kubectl("alice", "-n", "alice", verb, "-f", "-", stdin=_body(item), fails=fails)

    name = request["object"]["metadata"]["name"]
    try:
        verb = "create"
        if old := request.get("oldObject"):
            write("create", old)
            verb = "replace"
        said = write(verb, request["object"], fails=None)
        if f"service/{name} {verb}d" not in said:
            return Answer(item={}, warnings=(), refused=said)
        get = ("get", f"service/{name}", "-o", "json", "--show-managed-fields")
        item = json.loads(kubectl("alice", "-n", "alice", *get))
        return Answer(item=_comparable(item), warnings=tuple(sorted(warnings(said))))
    finally:
        kubectl("alice", "-n", "alice", "delete", f"service/{name}", "--ignore-not-found")


def _body(item: dict[str, Any]) -> str:
    meta = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    meta["namespace"] = "alice"
    return json.dumps({"apiVersion": "v1", "kind": "Service", **item, "metadata": meta})


def _comparable(item: dict[str, Any]) -> dict[str, Any]:
    for key in _OF_ONE:
        del item["metadata"][key]
    if item["spec"].get("clusterIP") not in (None, "None"):
        item["spec"] |= {"clusterIP": "one of its own", "clusterIPs": []}
    for owner in item["metadata"]["managedFields"]:
        owner.pop("time", None)
    return item


@pytest.mark.claim("W21")
@pytest.mark.parametrize("path", files(), ids=stem)
def test_policies_make_what_the_webhook_makes(
    path: Path, answers: dict[str, dict[str, Answer]]
) -> None:
    by_webhook, by_policy = (answers[maker][stem(path)] for maker in MAKERS)
    assert by_policy.item == by_webhook.item
    assert by_policy.warnings == by_webhook.warnings
    assert bool(by_policy.refused) == bool(by_webhook.refused)


@pytest.mark.claim("W21")
@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("path", files(), ids=stem)
def test_what_is_said_is_what_is_written_down(
    path: Path, maker: str, answers: dict[str, dict[str, Answer]]
) -> None:
    answer = answers[maker][stem(path)]
    told, denial = (path.with_name(f"{stem(path)}.{kind}") for kind in ("warnings", "denial"))
    if denial.exists():
        assert denial.read_text().strip() in answer.refused
        return
    assert answer.refused == ""
    lines = told.read_text().splitlines() if told.exists() else []
    theirs = " is ignored for headless services"
    assert [line for line in answer.warnings if not line.endswith(theirs)] == sorted(lines)


MANY = 80
CREATE = ("create", "-f", "-")
CHOICES: Mapping[str, Sequence[Any]] = {
    "type": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
    "clusterIP": ["", "None", "10.96.70.1"],
    "clusterIPs": [["None"], ["10.96.70.1"], []],
    "selector": [{"app": "web"}, {}],
    "ipFamilyPolicy": ["PreferDualStack", "RequireDualStack", "SingleStack"],
    "ipFamilies": [["IPv4"]],
    "externalIPs": [["192.0.2.1"]],
    "externalTrafficPolicy": ["Local", "Cluster"],
    "internalTrafficPolicy": ["Local"],
    "allocateLoadBalancerNodePorts": [True, False],
    "loadBalancerClass": ["a/b"],
    "loadBalancerIP": ["192.0.2.1"],
    "loadBalancerSourceRanges": [["192.0.2.0/24"], ["192.0.2.0/24"] * 9],
    "healthCheckNodePort": [32000],
    "sessionAffinity": ["ClientIP"],
    "publishNotReadyAddresses": [True],
    "externalName": ["example.org"],
}
NOTES: Sequence[Mapping[str, str]] = (
    {},
    {"slurmlet.io/original-type": "x"},
    {"service.beta.kubernetes.io/load-balancer-source-ranges": "192.0.2.0/24"},
)


def chosen(random: Random, number: int) -> dict[str, Any]:
    spec = {
        field: random.choice(values)
        for field, values in CHOICES.items()
        if random.random() < (0.8 if field in ("type", "selector") else 0.2)
    }
    spec["ports"] = [
        {
            "name": f"p{index}",
            "port": 80 + index,
            "targetPort": random.choice([80, 8080, "http"]),
            "protocol": random.choice(["TCP", "UDP", "SCTP"]),
            **({"nodePort": 30000 + 20 * number + index} if random.random() < 0.3 else {}),
        }
        for index in range(random.choice([1, 1, 2, 10]))
    ]
    meta = {"name": f"any-{number}", "annotations": random.choice(NOTES)}
    return {"metadata": meta, "spec": spec}


@pytest.mark.claim("W21")
def test_any_service_becomes_the_same(webhook: Webhook, kubectl: Kubectl) -> None:
    random = Random(13)
    items = [json.loads(_body(chosen(random, number))) for number in range(MANY)]
    serve("webhook", webhook, kubectl)
    dry = _try(kubectl, items)
    # Of the others the webhook has told something before the API server refuses them.
    valid = [item for item in items if f"service/{item['metadata']['name']} created" in dry]
    assert len(valid) > MANY / 3
    found = {}
    for maker in MAKERS:
        serve(maker, webhook, kubectl)
        errors = [line for line in _try(kubectl, items).splitlines() if "is invalid" in line]
        try:
            said = kubectl("alice", "-n", "alice", *CREATE, stdin=_all(valid))
            get = ("get", "services", "-o", "json", "--show-managed-fields")
            made = json.loads(kubectl("alice", "-n", "alice", *get))["items"]
        finally:
            kubectl("alice", "-n", "alice", "delete", "service", "--all")
        found[maker] = ([*map(_comparable, made)], sorted(warnings(said)), errors)
    (made, told, refused), by_policy = found["webhook"], found["policy"]
    assert len(told) > MANY / 3
    for item, other in zip(made, by_policy[0], strict=True):
        assert other == item
    assert by_policy[1:] == (told, refused)


def _try(kubectl: Kubectl, items: Sequence[dict[str, Any]]) -> str:
    dry = (*CREATE, "--dry-run=server")
    return kubectl("alice", "-n", "alice", *dry, stdin=_all(items), fails=None)


def _all(items: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


@pytest.fixture
def alone(answers: dict[str, dict[str, Answer]], webhook: Webhook) -> Iterator[None]:
    """Policies, whose webhook answers nobody."""
    assert answers["policy"]
    webhook.bootstrap("--services", "policy", "--url", "https://127.0.0.1:1")
    yield
    webhook.bootstrap("--services", "policy")


def node_port(name: str, *, ports: int = 1, **meta: Any) -> dict[str, Any]:
    numbers = [{"name": f"p{number}", "port": number} for number in range(1, ports + 1)]
    return {
        "metadata": {"name": name, **meta},
        "spec": {"type": "NodePort", "ports": numbers, "selector": {"app": "web"}},
    }


@pytest.mark.claim("W21")
@pytest.mark.usefixtures("alone")
def test_services_are_made_while_the_webhook_is_away(kubectl: Kubectl) -> None:
    item = node_port("away")
    try:
        said = kubectl("alice", "-n", "alice", "create", "-f", "-", stdin=_body(item))
        assert "spec.type NodePort became a headless ClusterIP" in said
        pod = {"metadata": {"name": "away"}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
        body = json.dumps({"apiVersion": "v1", "kind": "Pod", **pod})
        refused = kubectl("alice", "-n", "alice", "create", "-f", "-", stdin=body, fails=True)
        assert "failed calling webhook" in refused
    finally:
        kubectl("alice", "-n", "alice", "delete", "service/away")


@pytest.mark.usefixtures("answers")
def test_a_dry_run_shows_the_object_as_it_would_be(kubectl: Kubectl) -> None:
    dry = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    said = kubectl("alice", "-n", "alice", *dry, stdin=_body(node_port("dry")))
    assert "selfLink" not in said
    assert json.loads(said)["spec"]["clusterIP"] == "None"


@pytest.mark.claim("W22")
@pytest.mark.usefixtures("answers")
def test_more_ports_than_a_policy_may_walk_are_refused_at_once(kubectl: Kubectl) -> None:
    item = node_port("large", ports=5_000)
    item["spec"]["type"] = "ClusterIP"
    began = time.monotonic()
    said = kubectl("alice", "-n", "alice", "create", "-f", "-", stdin=_body(item), fails=True)
    assert (
        "spec.ports: a Service cannot have 5000 of them here; use at most 1000, or several Services"
        in said
    )
    assert time.monotonic() - began < SECONDS


@pytest.mark.claim("W21")
@pytest.mark.usefixtures("answers")
def test_the_largest_service_costs_the_api_server_seconds_at_most(kubectl: Kubectl) -> None:
    notes = {f"example.org/{number}": "" for number in range(10_000)}
    item = node_port("large", ports=1_000, annotations=notes)
    dry = ("create", "--dry-run=server", "-o", "name", "-f", "-")
    began = time.monotonic()
    assert "service/large" in kubectl("alice", "-n", "alice", *dry, stdin=_body(item))
    took = time.monotonic() - began
    print(f"a Service of 1,000 ports and 10,000 annotations: {took:.1f} s")
    assert took < SECONDS
