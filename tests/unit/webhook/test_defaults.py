"""The form of the policy; what it does to pods is in tests/integration/webhook/test_defaults.py."""

import json
import re
from typing import Any

import pytest

from slurmlet.contracts import annotations, names
from slurmlet.webhook import registration
from slurmlet.webhook.defaults import policy

SELECTOR = {"matchLabels": {"a": "b"}}
POLICY, BINDING = policy(
    "x", nodes=["slurm", "slurm-gpu"], namespaces=SELECTOR, conditions={"more": "true"}
)
SPEC = POLICY["spec"]


def registered(scope: Any) -> dict[str, dict[str, Any]]:
    """The policies' specs by name."""
    site = registration.Site(at="https://10.77.0.1:10270", ca=b"PEM", scope=scope)
    return {
        item["metadata"]["name"]: item["spec"]
        for item in registration.objects(site)
        if item["kind"] == "MutatingAdmissionPolicy"
    }


def test_it_is_in_force_for_new_pods_of_the_namespaces_that_were_named() -> None:
    assert BINDING["spec"] == {"policyName": "x"}
    match = SPEC["matchConstraints"]
    assert match["namespaceSelector"] == SELECTOR
    (rule,) = match["resourceRules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE"], ["pods"])
    assert (SPEC["failurePolicy"], SPEC["reinvocationPolicy"]) == ("Fail", "IfNeeded")


def test_all_keys_that_are_read_are_copied_and_no_other() -> None:
    wrong: Any = next(v["expression"] for v in SPEC["variables"] if v["name"] == "wrong")
    copied = json.loads(re.match(r"\[.*?\]", wrong)[0])  # type: ignore[index]
    typed = annotations.OPTIONS.keys() - annotations.FLAGS_ONLY
    assert len(copied) == len(set(copied))
    assert set(copied) == {*typed, "engine", "flags", "init"}
    settings = (names.ENGINE_ANNOTATION, names.FLAGS_ANNOTATION, names.INIT_ANNOTATION)
    assert {names.PREFIX + name for name in copied} >= set(settings)


def test_no_list_that_its_author_can_make_long_is_walked() -> None:
    expressions = [one["expression"] for one in (*SPEC["variables"], *SPEC["matchConditions"])]
    expressions.append(SPEC["mutations"][0]["jsonPatch"]["expression"])
    walked = [
        found
        for expression in expressions
        for found in re.findall(r"(\S+)\.(?:map|filter|exists|all)\(", expression)
    ]
    assert walked == ['"init"]', "variables.wrong"]


def test_our_nodes_are_those_that_were_named_and_further_conditions_hold_too() -> None:
    conditions = {one["name"]: one["expression"] for one in SPEC["matchConditions"]}
    assert conditions["more"] == "true"
    ours = [name for name, text in conditions.items() if '["slurm", "slurm-gpu"]' in text]
    assert ours == ["by-a-scheduler-or-a-node-of-ours", "not-a-daemon-elsewhere"]


@pytest.mark.parametrize("scope", ["all", "labelled"])
def test_pods_get_defaults_wherever_the_webhook_is_asked(scope: str) -> None:
    site = registration.Site(at="https://10.77.0.1:10270", ca=b"PEM", scope=scope)  # type: ignore[arg-type]
    mutating = registration.objects(site)[-1]["webhooks"]
    assert {
        name.removeprefix("defaults").removeprefix("-"): spec["matchConstraints"][
            "namespaceSelector"
        ]
        for name, spec in registered(scope).items()
    } == {
        webhook["name"].removeprefix("pods").removeprefix("-"): webhook["namespaceSelector"]
        for webhook in mutating
        if webhook["name"].startswith("pods")
    }


def test_where_nobody_agreed_a_pod_must_name_us() -> None:
    conditions = registered("labelled")["defaults-by-name.slurmlet.io"]["matchConditions"]
    assert "names-us" in [condition["name"] for condition in conditions]
