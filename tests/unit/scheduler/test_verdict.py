from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.reasons import claimed

from slurmlet.scheduler.verdict import is_ours, verdict

Make = Callable[..., dict[str, Any]]
NAMES = frozenset({"slurmlet-scheduler"})


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


def test_a_node_of_one_partition_is_chosen_by_its_label(pod: Make, node: Make) -> None:
    nodes = [node(name=f"slurm-{name}", labels={"slurmlet.io/partition": name}) for name in "ab"]
    assert verdict(pod(nodeSelector={"slurmlet.io/partition": "b"}), nodes).node == "slurm-b"


@pytest.mark.claim("K20")
@given(order=st.permutations(range(4)), cordoned=st.sets(st.sampled_from("abc")))
def test_the_default_partition_comes_first_then_names(
    pod: Make, node: Make, order: list[int], cordoned: set[str]
) -> None:
    label = {"slurmlet.io/default-partition": "true"}
    not_true = {"slurmlet.io/default-partition": "false"}
    nodes = [
        node(name="a", unschedulable="a" in cordoned),
        node(name="b", unschedulable="b" in cordoned, labels=not_true),
        node(name="c", unschedulable="c" in cordoned, labels=label),
        node(name="d"),
    ]
    wanted = next(name for name in "cabd" if name not in cordoned)
    assert verdict(pod(), [nodes[index] for index in order]).node == wanted


@pytest.mark.claim("K20")
def test_a_partition_of_an_annotation_chooses_its_node(pod: Make, node: Make) -> None:
    nodes = [node(name=f"slurm-{name}", labels={"slurmlet.io/partition": name}) for name in "abc"]
    asking = pod()
    for key, value, chosen in [
        ("slurmlet.io/partition", "c,b", "slurm-b"),
        ("slurmlet.io/flags", "-p c", "slurm-c"),
        ("ns.slurmlet.io/partition", "b", "slurm-b"),
    ]:
        asking["metadata"]["annotations"] = {key: value}
        assert verdict(asking, nodes).node == chosen
        assert verdict(asking, [node()]).node == "slurm", "it stands for all partitions"


@pytest.mark.claim("K1")
def test_without_a_node_that_is_said(pod: Make) -> None:
    assert verdict(pod(), []).reason == claimed("K1")


@pytest.mark.claim("K21")
def test_reasons_are_counted_and_sorted_as_text(pod: Make, node: Make) -> None:
    nodes = [
        *(node(name=f"a{number}", taints=[{"key": "x", "effect": "NoExecute"}]) for number in "12"),
        *(node(name=f"b{number}", labels={"disk": "hdd"}) for number in range(10)),
        node(name="c", unschedulable=True),
    ]
    found = verdict(pod(nodeSelector={"disk": "ssd"}), nodes)
    assert found.reason.startswith(
        "0/13 nodes are available: 1 node(s) were unschedulable, 10 node(s) didn't match Pod's node"
        " affinity/selector, 2 node(s) had untolerated taint(s). (1) spec.nodeSelector[disk] ssd:"
    )


@pytest.mark.claim("K21")
def test_remedies_are_for_the_nodes_that_the_pod_selects(pod: Make, node: Make) -> None:
    nodes = [
        node(name="slurm-cpu", labels={"slurmlet.io/partition": "cpu"}, unschedulable=True),
        node(name="slurm-debug", labels={"slurmlet.io/partition": "debug"}),
    ]
    main = {"name": "main", "resources": {"requests": {"cpu": "5"}}}
    found = verdict(pod(nodeSelector={"slurmlet.io/partition": "debug"}, containers=[main]), nodes)
    assert found.reason == (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. the pod asks"
        " for 5 CPUs (its overhead included), the largest node of partition debug has 4 CPUs; ask"
        " for less, or for a partition with larger nodes."
    )


@pytest.mark.claim("K21")
def test_a_message_stays_readable_whatever_the_pod_says(pod: Make, node: Make) -> None:
    selector = {f"{'k' * 200}{number}/{'k' * 60}": "v" * 63 for number in range(1000)}
    requests = {f"example.com/{number:0>200}": "1" for number in range(1000)}
    taints = [{"key": f"key-{number}", "effect": "NoSchedule"} for number in range(1000)]
    main = {"name": "main", "resources": {"requests": requests}}
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"nodeSelector": selector}, {}),
        ({"containers": [main]}, {}),
        ({}, {"taints": taints}),
    ]
    for spec, of_node in cases:
        assert len(verdict(pod(**spec), [node(**of_node), node(name="x")]).reason) < 4096


@pytest.mark.claim("K23")
@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"name": "main", "ports": [{"containerPort": 80, "hostPort": 80}]}]},
        {"hostNetwork": True},
        {
            "affinity": {
                kind: {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}
                    ]
                }
                for kind in ("podAffinity", "podAntiAffinity")
            }
        },
        {
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "DoNotSchedule",
                }
            ]
        },
    ],
    ids=["hostPort", "hostNetwork", "affinity to pods", "topology spread"],
)
def test_what_machines_decide_keeps_no_pod_off(pod: Make, node: Make, spec: dict[str, Any]) -> None:
    assert verdict(pod(**spec), [node()], running={"slurm": 1}).node == "slurm"
