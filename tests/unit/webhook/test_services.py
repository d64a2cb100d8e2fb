from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.webhook import goldenfiles

from slurmlet.contracts import codec
from slurmlet.contracts.policy import NOTHING_KNOWN, Snapshot
from slurmlet.webhook import services
from slurmlet.webhook.decision import Decision

Apply = Callable[..., Any]
OPT_OUT = {"slurmlet.io/headless": "false"}


def mutate(request: dict[str, Any], policy: Snapshot = NOTHING_KNOWN) -> Decision:
    return services.mutate(request, policy)


def service(*, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "alice", **({"labels": labels} if labels else {})},
        "spec": {
            "type": "ClusterIP",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 80}],
            **spec,
        },
    }


def create(item: dict[str, Any], namespace: str = "alice") -> dict[str, Any]:
    return {"operation": "CREATE", "namespace": namespace, "object": item}


def update(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return {"operation": "UPDATE", "namespace": "alice", "object": new, "oldObject": old}


def request_of(path: Path) -> tuple[dict[str, Any], Snapshot]:
    """A request is CREATE if its file names no operation, and meets an empty policy if none."""
    data = yaml.safe_load(path.read_text())
    policy = codec.decode(Snapshot, data.pop("policy", {}), path="policy")
    return {"operation": "CREATE", "namespace": "alice", **data}, policy


@pytest.mark.parametrize("path", goldenfiles.cases("services"))
def test_a_request_is_decided_as_written_down(
    path: Path, apply: Apply, pytestconfig: pytest.Config
) -> None:
    request, policy = request_of(path)
    decision = mutate(request, policy)
    goldenfiles.check(path, decision, update=pytestconfig.getoption("update_golden"))
    if decision.denial is None:
        again = {**request, "object": apply(request["object"], decision.patch)}
        assert mutate(again, policy).patch == ()


@pytest.mark.parametrize("claim", goldenfiles.messages("services"))
def test_a_claims_line_is_what_is_said(claim: str) -> None:
    files = [path for path in goldenfiles.files("services") if goldenfiles.claim_of(path) == claim]
    assert goldenfiles.is_said(claim, (mutate(*request_of(path)) for path in files))


def test_a_service_without_a_type_is_a_plain_one() -> None:
    item = service()
    del item["spec"]["type"]
    assert mutate(create(item)).patch


def test_only_the_api_servers_own_service_is_special() -> None:
    item = service(clusterIP="10.96.0.1")
    item["metadata"]["name"] = "kubernetes"
    assert mutate(create(item, "default")).patch == ()
    assert mutate(create(item, "alice")).patch


def test_a_service_that_is_being_deleted_can_always_be_updated() -> None:
    new = service(labels=OPT_OUT)
    new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert mutate(update(service(), new)).denial is None


@pytest.mark.parametrize("pod_network", [True, None])
def test_a_pods_network_leads_a_port_to_its_target(pod_network: bool | None) -> None:
    ports = [{"port": 80, "targetPort": 8080}, {"port": 9, "targetPort": "metrics"}]
    decision = mutate(create(service(ports=ports)), Snapshot(pod_network=pod_network))
    assert decision.warnings == ()


PORTS = st.lists(
    st.fixed_dictionaries(
        {"port": st.integers(1, 65535)},
        optional={
            "nodePort": st.integers(30000, 32767),
            "targetPort": st.integers(1, 65535) | st.just("http"),
            "protocol": st.sampled_from(["TCP", "UDP", "SCTP"]),
        },
    ),
    max_size=3,
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", ""]),
        "clusterIP": st.sampled_from(["", "None", "10.96.1.2", "fd00::1"]),
        "clusterIPs": st.lists(st.sampled_from(["None", "10.96.1.2"]), max_size=2),
        "ports": PORTS,
        "selector": st.sampled_from([{"app": "web"}, {}]),
        "ipFamilyPolicy": st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"]),
        "ipFamilies": st.lists(st.sampled_from(["IPv4", "IPv6"]), max_size=2, unique=True),
        "externalIPs": st.just(["192.0.2.1"]),
        "externalTrafficPolicy": st.sampled_from(["Local", "Cluster"]),
        "allocateLoadBalancerNodePorts": st.booleans(),
        "loadBalancerClass": st.just("a/b"),
        "loadBalancerIP": st.just("192.0.2.1"),
        "loadBalancerSourceRanges": st.just(["192.0.2.0/24"]),
        "healthCheckNodePort": st.just(32000),
    },
)
ITEMS = st.builds(
    lambda spec, labels, annotations: {
        "metadata": {"name": "web", "labels": labels, "annotations": annotations},
        "spec": spec,
    },
    SPECS,
    st.sampled_from([{}, OPT_OUT, {"slurmlet.io/headless": "true"}]),
    st.sampled_from(
        [
            None,
            {},
            {"slurmlet.io/original-type": "x"},
            {"service.beta.kubernetes.io/load-balancer-source-ranges": ""},
        ]
    ),
)


@given(ITEMS)
def test_a_second_call_changes_nothing(apply: Apply, item: dict[str, Any]) -> None:
    once = apply(item, mutate(create(item)).patch)
    assert mutate(create(once)).patch == ()


@given(ITEMS)
def test_what_is_ours_is_headless_and_has_nothing_of_other_types(
    apply: Apply, item: dict[str, Any]
) -> None:
    if item["metadata"]["labels"] == OPT_OUT or item["spec"].get("type") == "ExternalName":
        return
    was_other = item["spec"].get("type") in ("NodePort", "LoadBalancer")
    made = apply(item, mutate(create(item)).patch)
    spec = made["spec"]
    assert spec["clusterIP"] == "None"
    assert spec.get("clusterIPs", ["None"]) == ["None"]
    assert spec.get("type") in (None, "", "ClusterIP")
    if was_other:
        assert not any("nodePort" in port for port in spec.get("ports", []))
        assert ("externalTrafficPolicy" in spec) <= ("externalIPs" in spec)
        assert not {"loadBalancerClass", "loadBalancerSourceRanges"} & set(spec)
        kept = made["metadata"]["annotations"]["slurmlet.io/original-type"]
        assert kept == item["spec"]["type"]


@given(ITEMS, ITEMS)
def test_an_update_takes_no_address_away_and_gives_none(
    apply: Apply, old: dict[str, Any], new: dict[str, Any]
) -> None:
    decision = mutate(update(old, new))
    if decision.denial is not None or old["spec"].get("type") == "ExternalName":
        return
    if old["spec"].get("clusterIP") != "None":
        assert decision.patch == ()
    elif new["metadata"]["labels"] != OPT_OUT and new["spec"].get("type") != "ExternalName":
        assert apply(new, decision.patch)["spec"]["clusterIP"] == "None"
