"""Services behind a real API server: who makes them, and who applies them again."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.webhook.conftest import Webhook
from tests.integration.webhook.makers import serve, warnings
from tests.integration.webhook.writers import MAKERS, WRITERS, Writer

Kubectl = Callable[..., str]


@pytest.fixture(autouse=True, scope="module", params=["webhook", "policy"])
def by(webhook: Webhook, kubectl: Kubectl, request: pytest.FixtureRequest) -> None:
    """Who makes Services headless."""
    serve(request.param, webhook, kubectl)


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 80}], **spec},
    }


WEB = {"selector": {"app": "web"}}


SHAPES = [
    service("plain", **WEB),
    service("addressed", **WEB, clusterIP="10.96.77.77"),
    service("ported", **WEB, type="NodePort", ports=[{"port": 80, "nodePort": 30777}]),
    service(
        "balanced",
        **WEB,
        type="LoadBalancer",
        loadBalancerClass="example.com/lb",
        loadBalancerSourceRanges=["192.0.2.0/24"],
        externalTrafficPolicy="Local",
        ports=[{"name": "http", "port": 80}, {"name": "https", "port": 443, "targetPort": "tls"}],
    ),
    service("outside", **WEB, type="LoadBalancer", externalIPs=["192.0.2.8"]),
    service("bare", ipFamilies=["IPv4"]),
    service("preferring", ipFamilyPolicy="PreferDualStack", ipFamilies=["IPv4"]),
    service("requiring", type="NodePort", ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6"]),
]
"""What public charts have, and what is hardest to keep as it is."""


@pytest.fixture
def empty(kubectl: Kubectl) -> Iterator[None]:
    yield
    kubectl("alice", "-n", "alice", "delete", "service", "--all")


def live(kubectl: Kubectl) -> dict[str, dict[str, Any]]:
    said = kubectl("alice", "-n", "alice", "get", "services", "-o", "json", "--show-managed-fields")
    return {item["metadata"]["name"]: item for item in json.loads(said)["items"]}


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of Services that were written, or have other owners of fields."""
    fields = ("resourceVersion", "managedFields")
    return [
        name
        for name, item in after.items()
        if any(item["metadata"][field] != before[name]["metadata"][field] for field in fields)
    ]


def headless(services: dict[str, Any]) -> bool:
    specs = [item["spec"] for item in services.values()]
    return all((spec["type"], spec["clusterIP"]) == ("ClusterIP", "None") for spec in specs)


@pytest.mark.claim("W11")
@pytest.mark.timeout(400)
def test_who_applies_twice_changes_nothing_the_second_time(
    make_writer: Callable[[str, str], Writer], kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    """Makers and writers, each with a field manager of its own."""
    table: dict[tuple[str, str], list[str]] = {}
    for maker in MAKERS:
        for kind in WRITERS:
            first, second = make_writer(maker, "first"), make_writer(kind, "second")
            first.make(SHAPES)
            assert headless(live(kubectl)), f"made by {maker}"
            second.write(SHAPES)
            before = live(kubectl)
            second.write(SHAPES)
            after = live(kubectl)
            assert headless(after), f"made by {maker}, then {kind}"
            table[maker, kind] = changed(before, after)
            for one in (second, first):
                one.remove()
            kubectl("alice", "-n", "alice", "delete", "service", "--all")
    with capsys.disabled():
        print(f"\n{'made by':>18} | then twice by")
        for maker in MAKERS:
            row = [f"{kind} {table[maker, kind] or 'ok'}" for kind in WRITERS]
            print(f"{maker:>18} | {', '.join(row)}")
    assert not any(table.values())


@pytest.mark.usefixtures("empty")
@pytest.mark.claim("W3", "W4", "W10")
def test_a_load_balancer_becomes_headless_and_says_what_it_lost(kubectl: Kubectl) -> None:
    said = kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=json.dumps(SHAPES[3]))
    told = "\n".join(warnings(said))
    assert "spec.type LoadBalancer became a headless ClusterIP" in told
    assert "spec.loadBalancerClass example.com/lb" in told
    assert "spec.loadBalancerSourceRanges 192.0.2.0/24: removed" in told
    item = live(kubectl)["balanced"]
    assert item["metadata"]["annotations"]["slurmlet.io/original-type"] == "LoadBalancer"
    assert not any("nodePort" in port for port in item["spec"]["ports"])
    assert item["status"]["loadBalancer"] == {}


@pytest.mark.usefixtures("empty")
def test_what_is_bound_to_no_type_stays(kubectl: Kubectl) -> None:
    kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=json.dumps(SHAPES[4]))
    spec = live(kubectl)["outside"]["spec"]
    assert spec["externalIPs"] == ["192.0.2.8"]
    assert spec["externalTrafficPolicy"] == "Cluster"


@pytest.mark.usefixtures("empty")
def test_a_service_without_a_selector_keeps_its_one_family(kubectl: Kubectl) -> None:
    kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=json.dumps(SHAPES[5]))
    spec = live(kubectl)["bare"]["spec"]
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == ("SingleStack", ["IPv4"])


@pytest.mark.usefixtures("empty")
@pytest.mark.claim("W11")
def test_a_service_that_got_both_families_can_get_a_selector(kubectl: Kubectl) -> None:
    item = json.loads(json.dumps(SHAPES[6]))
    apply = ("alice", "-n", "alice", "apply", "-f", "-")
    kubectl(*apply, stdin=json.dumps(item))
    for selector in (WEB["selector"], None):
        item["spec"]["selector"] = selector
        for _ in range(2):
            kubectl(*apply, stdin=json.dumps(item))
        before = live(kubectl)
        assert before["preferring"]["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
        kubectl(*apply, stdin=json.dumps(item))
        assert changed(before, live(kubectl)) == []


@pytest.mark.usefixtures("empty")
@pytest.mark.claim("W11")
def test_who_applies_no_families_any_more_can_add_a_selector(kubectl: Kubectl) -> None:
    """Server-side, where families that nobody owns stay."""
    apply = ("alice", "-n", "alice", "apply", "--server-side", "-f", "-")
    for item in (SHAPES[6], service("preferring", **WEB), service("preferring", **WEB)):
        before = live(kubectl)
        kubectl(*apply, stdin=json.dumps(item))
    assert changed(before, live(kubectl)) == []


@pytest.mark.usefixtures("empty")
@pytest.mark.claim("W12")
@pytest.mark.parametrize("change", ["NodePort", "LoadBalancer", "10.96.77.78"])
def test_a_headless_service_stays_so(kubectl: Kubectl, change: str) -> None:
    kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=json.dumps(SHAPES[0]))
    field = "clusterIP" if "." in change else "type"
    patch = json.dumps({"spec": {field: change}})
    said = kubectl("alice", "-n", "alice", "patch", "service/plain", "--type=merge", f"-p={patch}")
    assert any(line.startswith(f"spec.{field} {change} ") for line in warnings(said))
    assert headless(live(kubectl))


@pytest.mark.usefixtures("empty")
@pytest.mark.claim("W8")
def test_an_address_from_before_stays(kubectl: Kubectl) -> None:
    """A Service of a namespace that was not ours when it was made."""

    switch = ("label", "namespace/alice")
    kubectl("admin", *switch, "slurmlet.io/admission=disabled")
    try:
        kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=json.dumps(SHAPES[2]))
        before = live(kubectl)["ported"]["spec"]
    finally:
        kubectl("admin", *switch, "slurmlet.io/admission-")
    assert before["clusterIP"].startswith("10.96.")
    said = kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=json.dumps(SHAPES[2]))
    assert "Warning" not in said
    patch = '-p={"spec": {"type": "LoadBalancer"}}'
    kubectl("alice", "-n", "alice", "patch", "service/ported", "--type=merge", patch)
    after = live(kubectl)["ported"]["spec"]
    assert (after["type"], after["clusterIP"]) == ("LoadBalancer", before["clusterIP"])


@pytest.mark.usefixtures("empty")
@pytest.mark.claim("W9")
@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_an_external_name_becomes_headless_with_its_type(kubectl: Kubectl, kind: str) -> None:
    external = service("moved", type="ExternalName", externalName="example.org")
    kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=json.dumps(external))
    plain = json.dumps(service("moved", type=kind))
    kubectl("alice", "-n", "alice", "replace", "-f", "-", stdin=plain)
    assert headless(live(kubectl))
    back = {"spec": {"type": "ExternalName", "externalName": "example.org"}}
    patch = f"-p={json.dumps(back)}"
    kubectl("alice", "-n", "alice", "patch", "service/moved", "--type=merge", patch)
    assert "clusterIP" not in live(kubectl)["moved"]["spec"]


@pytest.mark.usefixtures("empty")
@pytest.mark.claim("W6", "W7")
def test_opting_out_keeps_type_and_address_for_life(kubectl: Kubectl) -> None:
    item = service("out", type="NodePort")
    item["metadata"]["labels"] = {"slurmlet.io/headless": "false"}
    kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=json.dumps(item))
    spec = live(kubectl)["out"]["spec"]
    assert (spec["type"], spec["clusterIP"][:6]) == ("NodePort", "10.96.")
    arguments = ("label", "service/out", "slurmlet.io/headless-")
    said = kubectl("alice", "-n", "alice", *arguments, fails=True)
    assert "delete and re-create the Service" in said


@pytest.mark.claim("W7")
def test_the_label_means_nothing_on_the_api_servers_own(kubectl: Kubectl) -> None:
    label = ("admin", "-n", "default", "label", "service/kubernetes")
    assert "labeled" in kubectl(*label, "slurmlet.io/headless=false")
    assert "unlabeled" in kubectl(*label, "slurmlet.io/headless-")


@pytest.mark.usefixtures("empty")
@pytest.mark.claim("W7")
def test_the_label_means_nothing_on_dns(kubectl: Kubectl) -> None:
    item = service("dns", **WEB)
    item["metadata"]["labels"] = {"k8s-app": "kube-dns"}
    kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=json.dumps(item))
    assert live(kubectl)["dns"]["spec"]["clusterIP"].startswith("10.96.")
    label = ("alice", "-n", "alice", "label", "service/dns")
    assert "labeled" in kubectl(*label, "slurmlet.io/headless=false")
    assert "unlabeled" in kubectl(*label, "slurmlet.io/headless-")
