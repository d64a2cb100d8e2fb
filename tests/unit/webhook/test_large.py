"""What the largest objects cost that a user can send: all requests share one interpreter, and the
API server gives up on each of them after TIMEOUT_SECONDS."""

import json
import time
from typing import Any

import pytest

from slurmlet.contracts.policy import NOTHING_KNOWN
from slurmlet.webhook.app import MAX_BODY
from slurmlet.webhook.registration import TIMEOUT_SECONDS
from slurmlet.webhook.review import mutate


def managed(fields: dict[str, Any]) -> list[Any]:
    return [{"manager": "kubectl", "operation": "Update", "fieldsV1": fields}]


def annotated(count: int) -> dict[str, Any]:
    keys = [f"status.slurmlet.io/{number}" for number in range(count)]
    owned: dict[str, Any] = {"f:annotations": {f"f:{key}": {} for key in keys}}
    return {
        "metadata": {
            "annotations": dict.fromkeys(keys, ""),
            "managedFields": managed({"f:metadata": owned}),
        },
        "spec": {"containers": [{"name": "a"}]},
    }


def forwarded(count: int) -> dict[str, Any]:
    ports = [{"port": port, "nodePort": port, "targetPort": 1} for port in range(2, count + 2)]
    owned: dict[str, Any] = {
        f'k:{{"port":{each["port"]},"protocol":"TCP"}}': {"f:nodePort": {}} for each in ports
    }
    return {
        "metadata": {"managedFields": managed({"f:spec": {"f:ports": owned}})},
        "spec": {"type": "NodePort", "ports": ports},
    }


def resourceful(count: int) -> dict[str, Any]:
    containers = [
        {
            "name": f"container-{each}",
            "image": "registry.example.org/image",
            "resources": asked(each),
        }
        for each in range(count)
    ]
    return {"metadata": {}, "spec": {"containers": containers}}


def unknown(count: int) -> dict[str, Any]:
    annotations = {f"slurmlet.io/{'a' * 30}{number}": "" for number in range(count)}
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "a"}]}}


def flags(count: int) -> dict[str, Any]:
    """Keys of other systems are read, too, and what is left says how large an object may be."""
    keys = ("slurmlet.io/flags", "ns.slurmlet.io/flags", "slurm.hpk.io/flags")
    annotations = {**dict.fromkeys(keys, "--a " * 1000), "note": "a" * count}
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "a"}]}}


def tolerant(count: int) -> dict[str, Any]:
    away = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "tolerationSeconds": 1}
    return {"metadata": {}, "spec": {"containers": [{"name": "a"}], "tolerations": [away] * count}}


def choosing(count: int) -> dict[str, Any]:
    values = [f"partition-{number}" for number in range(count)]
    expression = {"key": "slurmlet.io/partition", "operator": "In", "values": values}
    terms = [{"matchExpressions": [expression] * 2}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {
        "metadata": {},
        "spec": {"containers": [{"name": "a"}], "affinity": {"nodeAffinity": required}},
    }


def asked(number: int) -> dict[str, Any]:
    return {kind: {f"example.org/device-{number}": "1"} for kind in ("limits", "requests")}


LARGEST = {
    "forged": ("Pod", annotated, 40_000),
    "resources": ("Pod", resourceful, 12_000),
    "unknown": ("Pod", unknown, 50_000),
    "flags": ("Pod", flags, 2_000_000),
    "tolerations": ("Pod", tolerant, 25_000),
    "affinity": ("Pod", choosing, 60_000),
    "ports": ("Service", forwarded, 20_000),
}


@pytest.mark.claim("W100")
@pytest.mark.parametrize(("kind", "make", "count"), LARGEST.values(), ids=LARGEST)
def test_the_largest_object_is_answered_in_time(kind: str, make: Any, count: int) -> None:
    item = make(count)
    assert MAX_BODY / 2 < len(json.dumps(item, separators=(",", ":"))) < MAX_BODY
    request = {
        "uid": "1",
        "operation": "CREATE",
        "namespace": "alice",
        "kind": {"group": "", "version": "v1", "kind": kind},
        "object": item,
    }
    _answer_in_time(request)


@pytest.mark.claim("W100")
def test_the_largest_update_is_answered_in_time() -> None:
    old, new = ({"spec": {"clusterIP": "None", "ports": leading(to)}} for to in (1, 2))
    request = {
        "uid": "1",
        "operation": "UPDATE",
        "namespace": "alice",
        "kind": {"group": "", "version": "v1", "kind": "Service"},
        "object": new,
        "oldObject": old,
    }
    assert MAX_BODY / 2 < len(json.dumps(request)) < MAX_BODY
    _answer_in_time(request)


def leading(target: int) -> list[Any]:
    return [
        {"name": f"port-{port}", "port": port, "protocol": "TCP", "targetPort": target}
        for port in range(10, 18_000)
    ]


def _answer_in_time(request: Any) -> None:
    started = time.thread_time()
    decision = mutate(request, NOTHING_KNOWN)
    assert time.thread_time() - started < TIMEOUT_SECONDS
    assert len(decision.warnings) < 20
    assert len(decision.denial or "") + sum(map(len, decision.warnings)) < 10_000
