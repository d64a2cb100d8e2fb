"""The form of the policies; what they refuse is in tests/integration/webhook/test_guard.py."""

import json
import re
from typing import Any

import pytest

from slurmlet.contracts import aliases, annotations, names
from slurmlet.webhook.guard import policies
from slurmlet.webhook.policies import FEW

ITEMS = policies(["slurm", "slurm-gpu"])
POLICIES = {
    item["metadata"]["name"]: item["spec"]
    for item in ITEMS
    if item["kind"] == "ValidatingAdmissionPolicy"
}


def variable(policy: str, name: str) -> str:
    (found,) = [one["expression"] for one in POLICIES[policy]["variables"] if one["name"] == name]
    return str(found)


def test_each_policy_is_in_force() -> None:
    bindings = [i for i in ITEMS if i["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert [binding["spec"] for binding in bindings] == [
        {"policyName": name, "validationActions": ["Deny"]} for name in POLICIES
    ]
    assert {spec["failurePolicy"] for spec in POLICIES.values()} == {"Fail"}


def test_what_is_a_rule_of_security_holds_in_every_namespace() -> None:
    assert {
        name: spec["matchConstraints"]["namespaceSelector"] for name, spec in POLICIES.items()
    } == {
        "status.slurmlet.io": {},
        "bindings.slurmlet.io": {},
        "bound-pods.slurmlet.io": {
            "matchExpressions": [
                {
                    "key": "kubernetes.io/metadata.name",
                    "operator": "NotIn",
                    "values": ["kube-system", "slurmlet-system"],
                }
            ]
        },
    }


def test_every_way_to_a_pods_annotations_is_watched() -> None:
    matched = {
        (operation, resource)
        for spec in POLICIES.values()
        for rule in spec["matchConstraints"]["resourceRules"]
        for operation in rule["operations"]
        for resource in rule["resources"]
    }
    assert matched == {
        ("CREATE", "pods"),
        ("UPDATE", "pods"),
        ("UPDATE", "pods/status"),
        ("UPDATE", "pods/resize"),
        ("UPDATE", "pods/ephemeralcontainers"),
        ("CREATE", "pods/binding"),
        ("CREATE", "bindings"),
    }


def test_our_nodes_are_those_that_were_named() -> None:
    (condition, _) = POLICIES["bound-pods.slurmlet.io"]["matchConditions"]
    assert condition["expression"].endswith('in ["slurm", "slurm-gpu"]')


@pytest.mark.parametrize("policy", POLICIES)
def test_a_walk_over_annotations_is_bounded(policy: str) -> None:
    assert f"> {FEW}" in variable(policy, "keys")
    walks = [
        one["name"]
        for one in POLICIES[policy]["variables"]
        if re.search(r"(before|after)\.(map|filter|exists|all)\(", one["expression"])
    ]
    assert walks == ["keys"]
    for condition in POLICIES[policy]["matchConditions"]:
        assert not re.search(
            r"annotations[^ ]*\.(map|filter|exists|all)\(", condition["expression"]
        )


def test_of_a_pod_with_many_annotations_all_that_count_are_looked_at() -> None:
    def known(policy: str) -> set[str]:
        found: Any = re.search(r"\[.*?\]", variable(policy, "keys"))
        return set(json.loads(found[0]))

    status = set(names.STATUS_ANNOTATIONS)
    assert known("status.slurmlet.io") == status
    asking = known("bound-pods.slurmlet.io")
    typed = {f"slurmlet.io/{name}" for name in annotations.OPTIONS.keys() - annotations.FLAGS_ONLY}
    assert typed | {*aliases.FLAG_ALIASES, *aliases.ALIASES} <= asking
    assert {"slurmlet.io/engine", "slurmlet.io/flags", "slurmlet.io/init"} <= asking
    assert {"ns.slurmlet.io/time", "ns.slurmlet.io/flags"} <= asking
    assert known("bindings.slurmlet.io") == status | asking


def test_every_status_annotation_of_the_contract_is_guarded() -> None:
    constants = {
        value
        for value in vars(names).values()
        if isinstance(value, str) and value.startswith(names.STATUS_PREFIX)
    }
    assert constants - {names.STATUS_PREFIX} == set(names.STATUS_ANNOTATIONS)


def test_sentences_are_one_line_and_say_what_to_do() -> None:
    for spec in POLICIES.values():
        for validation in spec["validations"]:
            sentence = validation["messageExpression"]
            assert "\\n" not in sentence
            assert re.search("; (leave|delete|bind|run) ", sentence), sentence
