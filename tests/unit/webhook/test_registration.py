import asyncio
import base64
import copy
from typing import Any, cast

import pytest

from slurmlet.common.kube import Api, ApiError
from slurmlet.webhook.bootstrap import register
from slurmlet.webhook.registration import configuration

URL = "https://10.77.0.1:10270/mutate"


class FakeApi:
    """Holds one object; applies a merge patch as the API server does."""

    def __init__(self, item: dict[str, Any] | None = None) -> None:
        self.item = item
        self.writes = 0

    async def get(self, _path: str) -> dict[str, Any]:
        if self.item is None:
            raise ApiError(status=404, reason="NotFound", message="no such object")
        return copy.deepcopy(self.item)

    async def create(self, _path: str, body: dict[str, Any]) -> None:
        self.writes += 1
        self.item = copy.deepcopy(body)
        self.item["metadata"]["resourceVersion"] = "1"

    async def patch(self, _path: str, body: dict[str, Any]) -> None:
        assert self.item is not None
        assert body["metadata"]["resourceVersion"] == self.item["metadata"]["resourceVersion"]
        self.writes += 1
        self.item["webhooks"] = copy.deepcopy(body["webhooks"])


def run(api: FakeApi, wanted: dict[str, Any], *, check: bool = False) -> list[str]:
    return asyncio.run(register(cast(Api, api), wanted, check=check))


def wanted(**changes: Any) -> dict[str, Any]:
    return configuration(**{"url": URL, "ca": b"PEM", "scope": "all", **changes})


def test_the_second_run_says_and_writes_nothing() -> None:
    api = FakeApi()
    assert run(api, wanted()) == ["MutatingWebhookConfiguration slurmlet: created"]
    assert run(api, wanted()) == []
    assert api.writes == 1


def test_check_says_what_would_change_and_writes_nothing() -> None:
    api = FakeApi()
    assert run(api, wanted(), check=True) == [
        "MutatingWebhookConfiguration slurmlet: would be created"
    ]
    assert api.writes == 0


def test_a_new_authority_is_the_only_change_that_is_named() -> None:
    api = FakeApi()
    run(api, wanted())
    lines = run(api, wanted(ca=b"NEW"))
    assert [line.split(": ")[-1] for line in lines] == [
        "webhooks[services.slurmlet.io].clientConfig.caBundle",
        "webhooks[pods.slurmlet.io].clientConfig.caBundle",
    ]
    assert run(api, wanted(ca=b"NEW")) == []


def test_a_setting_that_somebody_added_is_put_back() -> None:
    api = FakeApi()
    run(api, wanted())
    assert api.item is not None
    api.item["webhooks"][0]["failurePolicy"] = "Ignore"
    api.item["webhooks"][1]["objectSelector"] = {"matchLabels": {"a": "b"}}
    assert len(run(api, wanted())) == 2
    assert run(api, wanted()) == []


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_error_of_the_api_server_is_not_an_absent_object(status: int) -> None:
    class Refusing(FakeApi):
        async def get(self, _path: str) -> dict[str, Any]:
            raise ApiError(status=status, reason="", message="no")

    api = Refusing()
    with pytest.raises(ApiError):
        run(api, wanted())
    assert api.writes == 0


def test_system_namespaces_never_wait_for_us() -> None:
    for webhook in wanted()["webhooks"]:
        protected, switch = webhook["namespaceSelector"]["matchExpressions"]
        assert protected["values"] == ["kube-system", "slurmlet-system"]
        assert protected["operator"] == "NotIn"
        assert (switch["operator"], switch["values"]) == ("NotIn", ["disabled"])
        assert base64.b64decode(webhook["clientConfig"]["caBundle"]) == b"PEM"
        assert webhook["timeoutSeconds"] == 3


def test_on_a_shared_cluster_only_labelled_namespaces_are_ours() -> None:
    for webhook in wanted(scope="labelled")["webhooks"]:
        switch = webhook["namespaceSelector"]["matchExpressions"][1]
        assert (switch["operator"], switch["values"]) == ("In", ["enabled"])
