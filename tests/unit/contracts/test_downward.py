"""Requests and limits as the downward API tells them."""

import json
from typing import Any

import pytest

from slurmlet.contracts.downward import resource_value
from slurmlet.contracts.quantity import QuantityError


def pod(resources: dict[str, Any], **annotations: str) -> dict[str, Any]:
    named = {key.replace("_", "-"): value for key, value in annotations.items()}
    return {
        "metadata": {"annotations": {f"status.slurmlet.io/{k}": v for k, v in named.items()}},
        "spec": {
            "initContainers": [{"name": "init"}],
            "containers": [{"name": "main", "resources": resources}],
        },
    }


def value(item: dict[str, Any], resource: str, divisor: str = "0", name: str = "main") -> str:
    reference = {"containerName": name, "resource": resource, "divisor": divisor}
    return resource_value(item, reference)


def test_resources_are_rounded_up() -> None:
    item = pod({"requests": {"cpu": "250m"}, "limits": {"memory": "100Mi"}})
    assert value(item, "requests.cpu") == "1"
    assert value(item, "requests.cpu", "1m") == "250"
    assert value(item, "limits.memory", "1Mi") == "100"
    assert value(item, "requests.memory", "1Mi") == "100"


def test_what_is_not_limited_may_use_what_the_job_has() -> None:
    item = pod({"requests": {"cpu": "250m"}, "limits": {"memory": "100Mi"}})
    assert value(item, "limits.cpu", "1m") == "250"
    assert value(item, "limits.memory", "1Mi", name="init") == "100"
    request = json.dumps({"cpus-per-task": "4", "mem": "320M"})
    bare = pod({}, request=request)
    assert (value(bare, "limits.cpu"), value(bare, "limits.memory", "1Mi")) == ("4", "320")
    assert (value(bare, "requests.cpu"), value(bare, "requests.memory")) == ("0", "0")


@pytest.mark.parametrize("request_", ["{}", "[]", "no JSON", '{"mem": "much"}'])
def test_a_request_that_says_nothing(request_: str) -> None:
    assert value(pod({}, request=request_), "limits.memory") == "0"


def test_who_asks_need_not_be_named() -> None:
    asking = {"name": "main", "resources": {"limits": {"cpu": "3"}}}
    assert resource_value(pod({}), {"resource": "limits.cpu"}, container=asking) == "3"


@pytest.mark.parametrize("resource", ["", "cpu", "limits.", "uses.cpu"])
def test_what_is_no_resource(resource: str) -> None:
    with pytest.raises(QuantityError):
        value(pod({}), resource)
    with pytest.raises(QuantityError):
        value(pod({}), "limits.cpu", name="nobody")
