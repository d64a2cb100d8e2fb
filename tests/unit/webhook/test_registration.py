import base64
import copy
import re
from typing import Any

import pytest

from slurmlet.webhook.registration import FEW_OWNERS, Service, Site, differences, objects
from slurmlet.webhook.templates import BUILT_IN, with_custom

URL = "https://10.77.0.1:10270"


def webhooks(**changes: Any) -> dict[str, dict[str, Any]]:
    site = Site(**{"at": URL, "ca": b"PEM", **changes})
    return {
        webhook["name"]: webhook for item in objects(site) for webhook in item.get("webhooks", ())
    }


def test_what_asks_the_webhook_comes_last_and_everything_bears_our_label() -> None:
    items = objects(Site(at=URL, ca=b"PEM"))
    assert [item["kind"] for item in items] == [
        *["ValidatingAdmissionPolicy"] * 3,
        *["ValidatingAdmissionPolicyBinding"] * 3,
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    ]
    for item in items:
        assert item["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "slurmlet"}


@pytest.mark.parametrize("scope", ["all", "labelled"])
def test_system_namespaces_never_wait_for_us(scope: str) -> None:
    for webhook in webhooks(scope=scope).values():
        protected, switch = webhook["namespaceSelector"]["matchExpressions"]
        assert protected["values"] == ["kube-system", "slurmlet-system"]
        assert protected["operator"] == "NotIn"
        assert switch["key"] == "slurmlet.io/admission"
        assert base64.b64decode(webhook["clientConfig"]["caBundle"]) == b"PEM"
        assert webhook["timeoutSeconds"] <= 3


def switches(scope: str) -> dict[str, tuple[str, list[str], str]]:
    found = {}
    for name, webhook in webhooks(scope=scope).items():
        _, switch = webhook["namespaceSelector"]["matchExpressions"]
        found[name] = (switch["operator"], switch["values"], webhook["failurePolicy"])
    return found


def test_on_our_own_control_plane_all_namespaces_are_ours_unless_switched_off() -> None:
    assert switches("all") == {
        "templates.slurmlet.io": ("NotIn", ["disabled"], "Ignore"),
        "services.slurmlet.io": ("NotIn", ["disabled"], "Fail"),
        "pods.slurmlet.io": ("NotIn", ["disabled"], "Fail"),
    }


def test_on_a_shared_cluster_nobody_waits_who_did_not_agree() -> None:
    assert switches("labelled") == {
        "templates.slurmlet.io": ("In", ["enabled"], "Ignore"),
        "services.slurmlet.io": ("In", ["enabled"], "Fail"),
        "pods.slurmlet.io": ("In", ["enabled"], "Fail"),
        "pods-by-name.slurmlet.io": ("NotIn", ["disabled", "enabled"], "Ignore"),
    }


def test_each_webhook_is_called_at_its_own_path() -> None:
    assert {name: each["clientConfig"]["url"] for name, each in webhooks().items()} == {
        "templates.slurmlet.io": f"{URL}/validate",
        "services.slurmlet.io": f"{URL}/mutate",
        "pods.slurmlet.io": f"{URL}/mutate",
    }
    at = Service(namespace="slurmlet-system", name="slurmlet-webhook")
    assert webhooks(at=at)["templates.slurmlet.io"]["clientConfig"]["service"] == {
        "namespace": "slurmlet-system",
        "name": "slurmlet-webhook",
        "port": 443,
        "path": "/validate",
    }


def test_custom_resources_get_rules_of_their_own_and_no_subresource_any() -> None:
    custom = with_custom({"batch.example.org/v1/trainings": ["spec.template"]})
    rules = webhooks(templates=custom)["templates.slurmlet.io"]["rules"]
    assert [(rule["apiGroups"], rule["apiVersions"], rule["resources"]) for rule in rules] == [
        (["apps"], ["v1"], ["deployments", "statefulsets", "daemonsets", "replicasets"]),
        (["batch"], ["v1"], ["jobs", "cronjobs"]),
        (["batch.example.org"], ["v1"], ["trainings"]),
    ]


def test_an_update_is_asked_about_where_any_template_may_have_changed() -> None:
    custom = with_custom({"batch.example.org/v1/trainings": ["template", "work-groups[*].pod"]})
    for templates, members in (
        (BUILT_IN, ["metadata.?annotations", "spec"]),
        (custom, ["metadata.?annotations", "spec", "template", "work-groups"]),
    ):
        (condition,) = (
            each["expression"]
            for each in webhooks(templates=templates)["templates.slurmlet.io"]["matchConditions"]
            if each["name"] == "something-changed"
        )
        assert condition.startswith('request.operation == "CREATE" || ')
        assert (
            sorted(re.findall(r"object(?:\[\?\"|\.)([\w.?-]+)\"?\]? != oldObject", condition))
            == members
        )


def test_differences_name_the_fields() -> None:
    wanted = {"webhooks": [{"name": "a", "x": {"y": 1}}, {"name": "b", "rules": [{"z": 1}]}]}
    assert differences(wanted, copy.deepcopy(wanted)) == []
    live: dict[str, Any] = copy.deepcopy(wanted)
    live["webhooks"][0]["x"]["y"] = 2
    live["webhooks"][1]["rules"].append({"z": 2})
    live["webhooks"][1]["more"] = True
    assert differences(live, wanted) == [
        "webhooks[a].x.y",
        "webhooks[b].more",
        "webhooks[b].rules",
    ]


@pytest.mark.parametrize(
    ("live", "wanted", "said"),
    [
        (["a"], ["a", "b"], ["w[b]"]),
        (["a", "b"], ["b"], ["w"]),
        (["a", "b"], ["b", "a"], ["w"]),
        ([], ["a"], ["w"]),
    ],
)
def test_items_that_come_go_or_move_are_differences(
    live: list[str], wanted: list[str], said: list[str]
) -> None:
    def named(names: list[str]) -> dict[str, Any]:
        return {"w": [{"name": name} for name in names]}

    assert differences(named(live), named(wanted)) == said


def test_no_condition_walks_over_a_list_of_any_length() -> None:
    (condition,) = [
        each["expression"]
        for webhook in webhooks(scope="labelled").values()
        for each in webhook["matchConditions"]
        if ".exists(" in each["expression"]
        and "object" in each["expression"].split(".exists(")[0]
        and not each["expression"].startswith("request.operation")
    ]
    assert condition.startswith(
        f"object.metadata.?ownerReferences.orValue([]).size() > {FEW_OWNERS} || !"
    )
