import asyncio
import copy
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

from slurmlet.common.kube import Api, ApiError
from slurmlet.webhook import __main__ as command
from slurmlet.webhook.bootstrap import UnsupportedError, register
from slurmlet.webhook.registration import Site, objects

URL = "https://10.77.0.1:10270"
MUTATING = "mutatingwebhookconfigurations/slurmlet"
GUARD = "validatingadmissionpolicies/status.slurmlet.io"


class FakeApi:
    """Objects by collection and name, as an API server holds them."""

    def __init__(self, *, absent: str = "nothing") -> None:
        self.absent = absent
        self.items: dict[str, dict[str, Any]] = {}
        self.writes = 0

    async def get(self, path: str) -> dict[str, Any]:
        key = _key(path)
        if key not in self.items:
            raise ApiError(status=404, reason="NotFound", message="no such object")
        return copy.deepcopy(self.items[key])

    async def list(self, path: str, params: dict[str, str]) -> tuple[list[Any], str]:
        if self.absent in path:
            raise ApiError(status=404, reason="NotFound", message="no such resource")
        key, _, value = params["labelSelector"].partition("=")
        found = [
            copy.deepcopy(item)
            for name, item in self.items.items()
            if name.startswith(f"{path.rpartition('/')[2]}/")
            and item["metadata"].get("labels", {}).get(key) == value
        ]
        return found, "1"

    async def create(self, path: str, body: dict[str, Any]) -> None:
        self._write(f"{path}/{body['metadata']['name']}", body)

    async def replace(self, path: str, body: dict[str, Any]) -> None:
        live = self.items[_key(path)]["metadata"]
        assert body["metadata"]["resourceVersion"] == live["resourceVersion"]
        self._write(path, body)

    async def delete(self, path: str, *, uid: str) -> None:
        assert self.items[_key(path)]["metadata"]["uid"] == uid
        self.writes += 1
        del self.items[_key(path)]

    def _write(self, path: str, body: dict[str, Any]) -> None:
        self.writes += 1
        item = copy.deepcopy(body)
        item["metadata"] |= {"resourceVersion": str(self.writes), "uid": _key(path)}
        self.items[_key(path)] = item


def _key(path: str) -> str:
    return "/".join(path.split("/")[-2:])


def run(api: FakeApi, *, check: bool = False, **changes: Any) -> list[str]:
    site = Site(**{"at": URL, "ca": b"PEM", **changes})
    return asyncio.run(register(cast(Api, api), objects(site), check=check))


@pytest.fixture
def api() -> FakeApi:
    found = FakeApi()
    run(found)
    return found


def test_the_second_run_says_and_writes_nothing() -> None:
    api = FakeApi()
    lines = run(api)
    assert len(lines) == 10
    assert lines[0] == "ValidatingAdmissionPolicy status.slurmlet.io: created"
    assert lines[-1] == "MutatingWebhookConfiguration slurmlet: created"
    assert run(api) == []
    assert api.writes == 10


def test_check_says_what_would_change_and_writes_nothing() -> None:
    api = FakeApi()
    lines = run(api, check=True)
    assert lines[-1] == "MutatingWebhookConfiguration slurmlet: would be created"
    assert api.writes == 0


def test_a_new_authority_is_the_only_change_that_is_named(api: FakeApi) -> None:
    assert [line.split(": ")[-1] for line in run(api, ca=b"NEW")] == [
        "webhooks[templates.slurmlet.io].clientConfig.caBundle",
        "webhooks[services.slurmlet.io].clientConfig.caBundle",
        "webhooks[pods.slurmlet.io].clientConfig.caBundle",
    ]
    assert run(api, ca=b"NEW") == []


def test_a_setting_that_somebody_changed_is_put_back_and_what_is_theirs_stays(
    api: FakeApi,
) -> None:
    mutating, guard = api.items[MUTATING], api.items[GUARD]
    mutating["webhooks"][0]["failurePolicy"] = "Ignore"
    mutating["metadata"]["labels"]["team"] = mutating["metadata"]["annotations"] = "x"
    guard["spec"]["paramKind"] = {"kind": "ConfigMap"}
    guard["status"] = {"typeChecking": {}}
    del guard["metadata"]["labels"]
    field = "webhooks[services.slurmlet.io].failurePolicy"
    assert run(api) == [
        "ValidatingAdmissionPolicy status.slurmlet.io: changed: metadata.labels",
        "ValidatingAdmissionPolicy status.slurmlet.io: changed: spec.paramKind",
        f"MutatingWebhookConfiguration slurmlet: changed: {field}",
    ]
    assert run(api) == []
    assert api.items[MUTATING]["metadata"]["labels"]["team"] == "x"
    assert api.items[MUTATING]["metadata"]["annotations"] == "x"
    assert api.items[GUARD]["status"] == {"typeChecking": {}}


def test_services_change_hands_without_a_moment_of_nobody(api: FakeApi) -> None:
    """The API server asks the webhook until the policies are there, and the other way round."""
    there = run(api, services="policy")
    assert there[-1].startswith("MutatingWebhookConfiguration slurmlet: changed: webhooks")
    assert "MutatingAdmissionPolicy services.slurmlet.io: created" in there
    assert run(api, services="policy") == []
    back = run(api)
    assert back[0].startswith("MutatingWebhookConfiguration slurmlet: changed: webhooks")
    assert "MutatingAdmissionPolicy services.slurmlet.io: removed" in back
    assert run(api) == []


def test_an_api_server_without_such_policies_is_told_before_anything_changes() -> None:
    api = FakeApi(absent="mutatingadmissionpolic")
    run(api)
    before = copy.deepcopy(api.items)
    with pytest.raises(UnsupportedError, match=r"Kubernetes 1\.36 on; use --services webhook"):
        run(api, services="policy")
    assert api.items == before


def test_what_is_ours_and_not_wanted_any_more_goes(api: FakeApi) -> None:
    for collection in ("validatingadmissionpolicies", "validatingadmissionpolicybindings"):
        old = copy.deepcopy(api.items[f"{collection}/status.slurmlet.io"])
        old["metadata"] |= {"name": "old", "uid": collection}
        api.items[f"{collection}/old"] = old
        theirs = copy.deepcopy(old)
        theirs["metadata"] = {"name": "theirs", "labels": {}}
        api.items[f"{collection}/theirs"] = theirs
    said = [
        "ValidatingAdmissionPolicyBinding old: would be removed",
        "ValidatingAdmissionPolicy old: would be removed",
    ]
    assert run(api, check=True) == said
    assert run(api) == [line.replace("would be ", "") for line in said]
    assert run(api) == []
    assert "validatingadmissionpolicies/theirs" in api.items


class OldApi(FakeApi):
    """Of a Kubernetes that lacks a kind."""

    def __init__(self, lacks: str) -> None:
        super().__init__()
        self.lacks = lacks

    async def list(self, path: str, params: dict[str, str]) -> tuple[list[Any], str]:
        if self.lacks in path:
            raise ApiError(status=404, reason="", message="404 page not found")
        return await super().list(path, params)


def test_an_api_server_without_mutating_policies_gets_all_else() -> None:
    api = OldApi("mutatingadmissionpolic")
    lines = run(api)
    assert len(lines) == 8
    assert not [line for line in lines if line.startswith("MutatingAdmission")]
    assert run(api) == []


def test_one_without_the_policies_that_guard_pods_gets_nothing() -> None:
    api = OldApi("validatingadmissionpolic")
    with pytest.raises(ApiError):
        run(api)
    assert api.writes == 0


@pytest.mark.parametrize("status", [401, 403, 500])
@pytest.mark.parametrize("about", ["mutatingadmissionpolicies", "mutatingwebhook"])
def test_a_refusal_to_list_is_not_a_kind_that_is_not_there(status: int, about: str) -> None:
    class Refusing(FakeApi):
        async def list(self, path: str, params: dict[str, str]) -> tuple[list[Any], str]:
            if about in path:
                raise ApiError(status=status, reason="", message="no")
            return await super().list(path, params)

    api = Refusing()
    with pytest.raises(ApiError):
        run(api)
    assert api.writes == 0


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_error_of_the_api_server_is_not_an_absent_object(status: int) -> None:
    class Refusing(FakeApi):
        async def get(self, path: str) -> dict[str, Any]:
            raise ApiError(status=status, reason="", message="no")

    api = Refusing()
    with pytest.raises(ApiError):
        run(api)
    assert api.writes == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "http://a:1"], "--url http://a:1: use https://ADDRESS:PORT and no path"),
        (["--url", "https://a:1/mutate"], "and no path"),
        (["--service", "webhook"], "--service webhook: use NAMESPACE/NAME"),
        (["--url", URL, "--config", "CONFIG"], "webhook.templates: 'Training' is no resource"),
        (["--url", URL, "--ca-file", "/nowhere"], "--ca-file /nowhere: No such file"),
        (["--url", URL, "--kubeconfig", "/nowhere"], "--kubeconfig /nowhere: no such file"),
    ],
)
def test_a_mistake_in_the_arguments_is_named(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slurmlet.toml").write_text('[webhook.templates]\nTraining = ["spec.template"]\n')
    (tmp_path / "file").write_bytes(trustme.CA().cert_pem.bytes())
    given = ["--kubeconfig", str(tmp_path / "file"), "--ca-file", str(tmp_path / "file")]
    given += [str(tmp_path / "slurmlet.toml") if word == "CONFIG" else word for word in arguments]
    monkeypatch.setattr(sys, "argv", ["slurmlet-webhook", "bootstrap", *given])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert said in str(ended.value)
