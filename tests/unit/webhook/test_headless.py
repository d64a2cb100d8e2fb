"""The form of the policies; what they do to Services is in tests/integration/webhook."""

import re
from typing import Any

from slurmlet.webhook import registration
from slurmlet.webhook.headless import LINES, MUTATION, TOLD, policies
from slurmlet.webhook.policies import FEW

SELECTOR = {"matchLabels": {"a": "b"}}
CONDITIONS = {"mine": "true"}
ITEMS = policies(namespaces=SELECTOR, conditions=CONDITIONS, pod_network=None)


def specs(items: list[dict[str, Any]] = ITEMS) -> dict[str, dict[str, Any]]:
    return {
        item["metadata"]["name"]: item["spec"]
        for item in items
        if not item["kind"].endswith("Binding")
    }


def test_every_policy_is_bound_and_only_what_is_told_is_no_denial() -> None:
    bindings = {
        item["spec"]["policyName"]: item["spec"].get("validationActions")
        for item in ITEMS
        if item["kind"].endswith("Binding")
    }
    assert bindings.keys() == specs().keys()
    assert bindings.pop(MUTATION) is None
    assert bindings.pop(TOLD) == ["Warn"]
    assert set(map(str, bindings.values())) == {"['Deny']"}


def test_all_are_in_force_where_they_were_told_to_be() -> None:
    for spec in specs().values():
        assert spec["matchConstraints"]["namespaceSelector"] == SELECTOR
        assert [rule["resources"] for rule in spec["matchConstraints"]["resourceRules"]] == [
            ["services"]
        ]


def test_all_are_about_the_services_that_the_webhook_is_asked_about() -> None:
    for spec in specs().values():
        assert {"name": "mine", "expression": "true"} in spec["matchConditions"]


def test_a_line_that_the_mutation_may_carry_is_told() -> None:
    validations = specs()[TOLD]["validations"]
    assert len(validations) == LINES
    assert [one["messageExpression"] for one in validations] == [
        f"variables.lines[{index}]" for index in range(LINES)
    ]


def test_what_its_author_can_make_long_is_measured_before_it_is_walked() -> None:
    spec = specs()[MUTATION]
    conditions = {one["name"]: one["expression"] for one in spec["matchConditions"]}
    assert conditions["few-ports"] == f"object.spec.?ports.orValue([]).size() <= {FEW}"
    variables = {one["name"]: one["expression"] for one in spec["variables"]}
    assert variables["owners"].startswith("object.metadata.?managedFields.orValue([]).size() > 100")
    walked = re.compile(r"managedFields[^ ]*\.(?:map|transformMap|transformList|filter)\(")
    assert [name for name, text in variables.items() if walked.search(text)] == ["kept"]


def test_who_makes_services_headless_is_one_of_two() -> None:
    def names(services: Any) -> tuple[bool, bool]:
        site = registration.Site(at="https://10.77.0.1:10270", ca=b"PEM", services=services)
        made = registration.objects(site)
        webhooks = [webhook["name"] for webhook in made[-1]["webhooks"]]
        policies = [item["metadata"]["name"] for item in made[:-1]]
        return "services.slurmlet.io" in webhooks, MUTATION in policies

    assert names("webhook") == (True, False)
    assert names("policy") == (False, True)
