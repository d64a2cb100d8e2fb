import base64
import json
import logging
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from slurmlet.contracts.policy import Snapshot
from slurmlet.contracts.request import RequestPolicy
from slurmlet.webhook.app import MAX_BODY, create_app
from slurmlet.webhook.metrics import metrics_in

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "containers", "annotations", "tolerations", "type", "labels"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return create_app(Snapshot, metrics_in(CollectorRegistry())).test_client()


def review(item: Any, *, kind: str = "Service", operation: object = "CREATE", **more: Any) -> Any:
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "e911857d",
            "kind": {"group": "", "version": "v1", "kind": kind},
            "operation": operation,
            "namespace": "alice",
            "userInfo": {"username": "alice"},
            "object": item,
            **more,
        },
    }


def answer(client: FlaskClient, body: Any) -> dict[str, Any]:
    response = client.post("/mutate", json=body)
    assert response.status_code == 200
    result: dict[str, Any] = response.get_json()
    assert (result["apiVersion"], result["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    inner: dict[str, Any] = result["response"]
    assert inner["uid"] == "e911857d"
    return inner


def test_a_patch_goes_back_with_the_uid(client: FlaskClient) -> None:
    response = answer(client, review({"metadata": {"name": "web"}, "spec": {"type": "ClusterIP"}}))
    assert response["allowed"] is True
    assert response["patchType"] == "JSONPatch"
    assert {"op": "add", "path": "/spec/clusterIP", "value": "None"} in json.loads(
        base64.b64decode(response["patch"])
    )


def test_each_request_is_decided_by_the_policy_of_its_moment() -> None:
    policies = iter(
        Snapshot(request=RequestPolicy(default_memory=memory, pod_overhead_memory=0))
        for memory in (100, 200)
    )
    metrics = metrics_in(CollectorRegistry())
    client = create_app(lambda: next(policies), metrics).test_client()
    item = {"metadata": {}, "spec": {"containers": [{"name": "main"}]}}
    for wanted in ("100M", "200M"):
        patch = json.loads(base64.b64decode(answer(client, review(item, kind="Pod"))["patch"]))
        (request,) = [op["value"] for op in patch if op["path"] == "/metadata/annotations"]
        assert json.loads(request["status.slurmlet.io/request"])["mem"] == wanted


def test_a_denial_carries_its_sentence(client: FlaskClient) -> None:
    item = {"metadata": {"annotations": {"slurmlet.io/nodes": "2"}}, "spec": {"containers": []}}
    response = answer(client, review(item, kind="Pod"))
    assert response["allowed"] is False
    assert response["status"]["code"] == 422
    assert "slurmlet.io/nodes" in response["status"]["message"]
    assert "patch" not in response


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "ConfigMap"},
        {"operation": "DELETE"},
        {"operation": "CONNECT"},
        {"subResource": "status"},
        {"namespace": "kube-system"},
        {"namespace": "slurmlet-system"},
    ],
)
def test_what_is_not_ours_passes_unchanged(client: FlaskClient, changes: dict[str, Any]) -> None:
    response = answer(client, review({"metadata": {}, "spec": {"type": "ClusterIP"}}, **changes))
    assert response == {"uid": "e911857d", "allowed": True}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {}}',
        json.dumps({**review({}), "request": None}).encode(),
        json.dumps(review(None)).encode(),
        json.dumps(review({}, operation=1)).encode(),
        # Python reads and writes these; no JSON has them, and a patch would repeat them.
        *(
            json.dumps(review({"metadata": {}, "spec": {"tolerations": "HERE"}}, kind="Pod"))
            .replace('"HERE"', f'[{{"key": "a", "tolerationSeconds": {number}}}]')
            .encode()
            for number in ("NaN", "Infinity", "-Infinity", "1e999")
        ),
    ],
)
def test_a_bad_body_is_the_callers_error(client: FlaskClient, body: bytes) -> None:
    response = client.post("/mutate", data=body)
    assert response.status_code == 400
    assert response.data.strip()


def test_a_body_above_the_bound_is_refused(client: FlaskClient) -> None:
    assert client.post("/mutate", data=b" " * (MAX_BODY + 1)).status_code == 413


def test_an_object_of_wrong_form_is_denied_and_not_an_error_of_the_server(
    client: FlaskClient,
) -> None:
    response = answer(client, review({"metadata": {}, "spec": {"containers": 7}}, kind="Pod"))
    assert response["allowed"] is False
    assert "e911857d" in response["status"]["message"]


@pytest.mark.claim("W95")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    item=JSON,
    old=JSON,
    kind=st.sampled_from(["Pod", "Service", "Job"]),
    operation=st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT", "other"]),
    more=st.dictionaries(
        st.sampled_from(["namespace", "name", "userInfo", "dryRun", "subResource", "uid", "kind"]),
        JSON,
        max_size=2,
    ),
)
def test_no_object_makes_a_500(
    client: FlaskClient, item: Any, old: Any, kind: str, operation: str, more: dict[str, Any]
) -> None:
    body = review(item, kind=kind, operation=operation, oldObject=old)
    body["request"] |= more
    assert client.post("/mutate", json=body).status_code in (200, 400)


@pytest.mark.claim("W95")
@pytest.mark.parametrize("depth", [100, 400, 800, 900, 950, 970, 990])
def test_no_depth_makes_a_500(client: FlaskClient, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    body = json.dumps(
        review({"metadata": {"name": "DEEP"}, "spec": {"tolerations": ["DEEP"]}}, kind="Pod")
    ).replace('"DEEP"', nested)
    assert client.post("/mutate", data=body).status_code in (200, 400)


@pytest.mark.claim("W95")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_bytes_make_a_500(client: FlaskClient, body: bytes) -> None:
    assert client.post("/mutate", data=body).status_code == 400


def test_one_json_line_per_decision(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    item = {"metadata": {"generateName": "web-"}, "spec": {"selector": {"app": "web"}}}
    logger = logging.getLogger("slurmlet.webhook.decisions")
    logger.propagate = True
    with caplog.at_level(logging.INFO, logger=logger.name):
        answer(client, review(item, dryRun=True))
    (record,) = [json.loads(r.getMessage()) for r in caplog.records if r.name == logger.name]
    assert record["namespace"] == "alice"
    assert record["name"] == "web-"
    assert record["user"] == "alice"
    assert record["dryRun"] is True
    assert record["allowed"] is True
    assert record["patched"] == ["/spec/clusterIP", "/spec/clusterIPs"]


@pytest.mark.claim("W92")
def test_each_request_is_counted_by_what_became_of_it() -> None:
    registry = CollectorRegistry()
    client = create_app(Snapshot, metrics_in(registry)).test_client()
    plain = {"metadata": {}, "spec": {"type": "ClusterIP"}}
    nodes = {"metadata": {"annotations": {"slurmlet.io/nodes": "2"}}, "spec": {"containers": []}}
    client.post("/mutate", json=review(plain))
    client.post("/mutate", json=review(plain, operation="UPDATE", oldObject=plain))
    client.post("/mutate", json=review(nodes, kind="Pod"))
    client.post("/mutate", json=review({"metadata": {}, "spec": 7}, kind="Pod"))
    client.post("/mutate", json=review({}, kind="Tenant's own", operation="DELETE"))
    odd = review({}, operation="anything")
    odd["request"]["kind"]["kind"] = ["Pod"]
    client.post("/mutate", json=odd)
    client.post("/mutate", data=b"{")
    client.post("/mutate", data=b" " * (MAX_BODY + 1))
    counted = {
        (labels["kind"], labels["operation"], labels["outcome"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "slurmlet_webhook_requests_total" and (labels := sample.labels)
    }
    assert counted == {
        ("Service", "CREATE", "patched"): 1,
        ("Service", "UPDATE", "allowed"): 1,
        ("Pod", "CREATE", "denied"): 1,
        ("Pod", "CREATE", "error"): 1,
        ("other", "DELETE", "allowed"): 1,
        ("other", "other", "allowed"): 1,
        ("other", "other", "error"): 2,
    }
    name = "slurmlet_webhook_request_duration_seconds"
    assert registry.get_sample_value(f"{name}_count", {"kind": "Pod"}) == 2
    assert registry.get_sample_value(f"{name}_bucket", {"kind": "Pod", "le": "0.5"}) == 2


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 200
