from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.webhook.services import mutate

OPT_OUT = {"slurmlet.io/headless": "false"}


def service(*, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "alice", **({"labels": labels} if labels else {})},
        "spec": {"type": "ClusterIP", "ports": [{"port": 80, "targetPort": 80}], **spec},
    }


def create(item: dict[str, Any], namespace: str = "alice") -> dict[str, Any]:
    return {"operation": "CREATE", "namespace": namespace, "object": item}


def update(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return {"operation": "UPDATE", "namespace": "alice", "object": new, "oldObject": old}


def test_a_plain_service_becomes_headless(apply: Callable[..., Any]) -> None:
    decision = mutate(create(service()))
    spec = apply(service(), decision.patch)["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("None", ["None"])
    assert decision.warnings == ()


def test_a_service_without_a_type_is_a_plain_one() -> None:
    item = service()
    del item["spec"]["type"]
    assert mutate(create(item)).patch


@pytest.mark.parametrize(
    "item",
    [
        service(clusterIP="None", clusterIPs=["None"]),
        service(type="ExternalName", externalName="example.org"),
        service(labels=OPT_OUT),
    ],
    ids=["already headless", "external name", "opted out"],
)
def test_left_alone(item: dict[str, Any]) -> None:
    decision = mutate(create(item))
    assert decision.patch == ()
    assert decision.warnings == ()


def test_the_api_servers_own_service_keeps_its_address() -> None:
    item = service(clusterIP="10.96.0.1")
    item["metadata"]["name"] = "kubernetes"
    assert mutate(create(item, "default")).patch == ()
    assert mutate(create(item, "alice")).patch, "only the one in default is special"


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_other_types_are_left_with_a_warning(kind: str) -> None:
    decision = mutate(create(service(type=kind)))
    assert decision.patch == ()
    assert decision.denial is None
    assert kind in decision.warnings[0]


def test_an_address_that_was_asked_for_is_replaced_with_a_warning(
    apply: Callable[..., Any],
) -> None:
    item = service(clusterIP="10.96.7.7", clusterIPs=["10.96.7.7"])
    decision = mutate(create(item))
    assert apply(item, decision.patch)["spec"]["clusterIPs"] == ["None"]
    assert "10.96.7.7" in decision.warnings[0]


def test_a_port_that_is_not_the_target_port_is_the_pods_networks_matter() -> None:
    ports = [{"port": 80, "targetPort": 8080}, {"port": 9, "targetPort": "metrics"}]
    assert mutate(create(service(ports=ports))).warnings == ()


def test_an_update_never_takes_an_address_away() -> None:
    old = service(clusterIP="10.96.7.7", clusterIPs=["10.96.7.7"])
    without = service()
    assert mutate(update(old, old)).patch == ()
    assert mutate(update(old, without)).patch == ()


def test_an_external_name_that_becomes_a_service_gets_no_address(
    apply: Callable[..., Any],
) -> None:
    old = service(type="ExternalName", externalName="example.org")
    decision = mutate(update(old, service()))
    assert apply(service(), decision.patch)["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("labels", [(None, OPT_OUT), (OPT_OUT, None)], ids=["set", "unset"])
def test_opting_out_or_in_later_is_denied_with_the_remedy(labels: tuple[Any, Any]) -> None:
    old, new = (service(labels=label) for label in labels)
    denial = mutate(update(old, new)).denial
    assert denial is not None
    assert "delete and re-create" in denial


def test_a_service_that_is_being_deleted_can_always_be_updated() -> None:
    new = service(labels=OPT_OUT)
    new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert mutate(update(service(), new)).denial is None


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", ""]),
        "clusterIP": st.sampled_from(["", "None", "10.96.1.2", "fd00::1"]),
        "clusterIPs": st.lists(st.sampled_from(["None", "10.96.1.2"]), max_size=2),
        "ports": st.lists(st.fixed_dictionaries({"port": st.integers(1, 65535)})),
        "ipFamilyPolicy": st.just("PreferDualStack"),
    },
)
ITEMS = st.builds(
    lambda spec, labels: {"metadata": {"name": "web", "labels": labels}, "spec": spec},
    SPECS,
    st.sampled_from([{}, OPT_OUT, {"slurmlet.io/headless": "true"}]),
)


@given(ITEMS)
def test_a_second_call_changes_nothing(apply: Callable[..., Any], item: dict[str, Any]) -> None:
    once = apply(item, mutate(create(item)).patch)
    assert mutate(create(once)).patch == ()


@given(ITEMS, ITEMS)
def test_no_update_sets_none_beside_an_old_address(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    if old["spec"].get("type") != "ExternalName":
        assert mutate(update(old, new)).patch == ()
