from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.scheduler.verdict import is_ours, verdict

Make = Callable[..., dict[str, Any]]
NAMES = frozenset({"slurmlet-scheduler"})


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}
        }
    }


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def named(name: str) -> dict[str, Any]:
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}


@pytest.mark.parametrize(
    ("spec", "ours"),
    [
        ({}, True),
        ({"schedulerName": "other"}, False),
        ({"schedulerName": "default-scheduler"}, False),
        ({"nodeName": "slurm"}, False),
        ({"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}, False),
        ({"schedulingGates": []}, True),
    ],
)
def test_which_pods_wait_for_us(pod: Make, spec: dict[str, Any], ours: bool) -> None:
    assert is_ours(pod(**spec), NAMES) is ours


def test_pods_that_name_no_scheduler_are_ours_if_configured(pod: Make) -> None:
    assert is_ours(pod(schedulerName="default-scheduler"), NAMES | {"default-scheduler"})


def test_a_pod_that_is_being_deleted_or_has_ended_is_not_bound(pod: Make) -> None:
    leaving, ended = pod(), pod()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    ended["status"]["phase"] = "Failed"
    assert not is_ours(leaving, NAMES)
    assert not is_ours(ended, NAMES)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"nodeSelector": {"kubernetes.io/os": "linux"}},
        {"nodeSelector": {"slurmlet.io/partition": "debug"}},
        {"affinity": affinity(expression("kubernetes.io/os", "In", "linux", "windows"))},
        {"affinity": affinity(expression("kubernetes.io/os", "NotIn", "windows"))},
        {"affinity": affinity(expression("absent", "NotIn", "x"))},
        {"affinity": affinity(expression("kubernetes.io/os", "Exists"))},
        {"affinity": affinity(expression("absent", "DoesNotExist"))},
        {"affinity": affinity(expression("generation", "Gt", "2"))},
        {"affinity": affinity(expression("generation", "Lt", "10"))},
        {"affinity": affinity(named("slurm"))},
        {"affinity": affinity(named("other"), named("slurm"))},
        {"affinity": {"podAntiAffinity": {}}},
        {"tolerations": [{"operator": "Exists"}]},
        {"tolerations": [{"key": "slurmlet.io/slurm", "effect": "NoSchedule"}]},
    ],
)
def test_fits(pod: Make, node: Make, spec: dict[str, Any]) -> None:
    assert verdict(pod(**spec), [node(labels={"generation": "3"})]).node == "slurm"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, "nodeSelector disk=ssd"),
        (
            {"nodeSelector": {"slurmlet.io/partition": "gpu"}},
            "no partition gpu; it has cpu, debug",
        ),
        ({"affinity": affinity(expression("generation", "Gt", "3"))}, "node affinity"),
        ({"affinity": affinity(expression("generation", "Lt", "x"))}, "node affinity"),
        ({"affinity": affinity(expression("kubernetes.io/os", "Near", "linux"))}, "node affinity"),
        ({"affinity": affinity(named("other"))}, "node affinity"),
        ({"affinity": affinity({})}, "node affinity"),
        ({"affinity": affinity()}, "node affinity"),
        (
            {"affinity": affinity({**named("slurm"), **expression("absent", "Exists")})},
            "node affinity",
        ),
        ({"tolerations": []}, "taint slurmlet.io/slurm:NoSchedule"),
        ({"tolerations": [{"key": "slurmlet.io/slurm", "value": "x"}]}, "taint"),
        ({"tolerations": [{"operator": "Exists", "effect": "NoExecute"}]}, "taint"),
    ],
)
def test_fits_nowhere_and_says_why(pod: Make, node: Make, spec: dict[str, Any], said: str) -> None:
    found = verdict(pod(**spec), [node(labels={"generation": "3"})])
    assert found.node is None
    assert found.reason.startswith("0/1 nodes are available: slurm: ")
    assert said in found.reason


def test_a_node_of_one_partition_is_chosen_by_its_label(pod: Make, node: Make) -> None:
    nodes = [node(name=f"slurm-{name}", labels={"slurmlet.io/partition": name}) for name in "ab"]
    assert verdict(pod(nodeSelector={"slurmlet.io/partition": "b"}), nodes).node == "slurm-b"
    assert verdict(pod(), nodes).node == "slurm-a", "the first by name"
    assert verdict(pod(), nodes[::-1]).node == "slurm-a"


def test_without_a_node_that_is_said(pod: Make) -> None:
    assert "no virtual node is registered" in verdict(pod(), []).reason


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_an_agent_that_has_not_said_its_partitions_gets_no_pod_that_names_one(
    pod: Make, node: Make, text: str
) -> None:
    target = node()
    target["metadata"]["annotations"]["slurmlet.io/largest"] = text
    assert verdict(pod(nodeSelector={"slurmlet.io/partition": "cpu"}), [target]).node is None
    assert verdict(pod(), [target]).node == "slurm"


def test_a_cordoned_node_gets_pods_only_of_those_who_tolerate_it(pod: Make, node: Make) -> None:
    cordoned = node(unschedulable=True)
    assert "unschedulable" in verdict(pod(), [cordoned]).reason
    assert verdict(pod(tolerations=[{"operator": "Exists"}]), [cordoned]).node == "slurm"


def test_a_soft_taint_keeps_nobody_off(pod: Make, node: Make) -> None:
    soft = node(taints=[{"key": "busy", "effect": "PreferNoSchedule"}])
    assert verdict(pod(), [soft]).node == "slurm"


EFFECTS = st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"])
KEYS = st.sampled_from(["a", "b"])
VALUES = st.sampled_from(["", "1"])
TAINTS = st.lists(st.fixed_dictionaries({"key": KEYS, "value": VALUES, "effect": EFFECTS}))


@given(TAINTS)
def test_who_tolerates_each_taint_exactly_is_let_in(
    pod: Make, node: Make, taints: list[dict[str, str]]
) -> None:
    exact = [{**taint, "operator": "Equal"} for taint in taints]
    assert verdict(pod(tolerations=exact), [node(taints=taints)]).node == "slurm"
    hard = [taint for taint in taints if taint["effect"] != "PreferNoSchedule"]
    assert (verdict(pod(tolerations=[]), [node(taints=taints)]).node is None) is bool(hard)
