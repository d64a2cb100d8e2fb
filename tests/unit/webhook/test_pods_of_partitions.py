"""Pods where each partition of Slurm has a virtual node."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.contracts.test_selection import affinity, requirement
from tests.unit.webhook.test_pods import REQUEST, change, daemon, decide, pod

from slurmlet.contracts.identity import Identity, IdentityMap
from slurmlet.contracts.policy import NodeSize, Snapshot
from slurmlet.contracts.request import RequestPolicy

PER_PARTITION = Snapshot(
    nodes={"slurm-cpu": "cpu", "slurm-debug": "debug"},
    identities=IdentityMap(
        namespaces={"alice": Identity(user="alice", partitions=("debug", "cpu"))}
    ),
)


def selected(apply: Callable[..., Any], item: dict[str, Any], policy: Snapshot) -> Any:
    decision = decide(item, policy)
    assert decision.denial is None
    return apply(item, decision.patch)["spec"].get("nodeSelector")


@pytest.mark.claim("V12")
def test_a_pod_is_led_to_the_node_of_its_partition(apply: Callable[..., Any]) -> None:
    """The scheduler knows neither annotations of ours nor the identity map."""
    key = "slurmlet.io/partition"
    assert selected(apply, pod(), PER_PARTITION) == {key: "debug"}
    assert selected(apply, pod({key: "cpu"}, nodeSelector={"a": "b"}), PER_PARTITION) == {
        key: "cpu",
        "a": "b",
    }
    assert selected(apply, pod({key: "cpu,debug"}), PER_PARTITION) == {key: "cpu"}
    assert selected(apply, pod(nodeSelector={key: "cpu"}), PER_PARTITION) == {key: "cpu"}
    chosen = affinity([requirement(key, "Exists")])
    assert selected(apply, pod(affinity=chosen), PER_PARTITION) is None
    assert selected(apply, pod({key: "cpu"}), Snapshot()) is None


@pytest.mark.claim("V12")
def test_an_affinity_that_speaks_of_something_else_chooses_no_partition(
    apply: Callable[..., Any],
) -> None:
    """Charts write it; on the node of another partition the agent would refuse the pod."""
    linux = affinity([requirement("kubernetes.io/os", "In", "linux")])
    assert selected(apply, pod(affinity=linux), PER_PARTITION) == {"slurmlet.io/partition": "debug"}


BOTH = {"partition": "cpu,debug"}


@pytest.mark.claim("V12")
@pytest.mark.parametrize(
    ("item", "site", "partition"),
    [
        (pod(), {}, "debug"),
        (pod(), BOTH, "cpu"),
        (pod({"slurmlet.io/partition": "cpu,debug"}), {}, "cpu"),
        (pod({"ns.slurmlet.io/partition": "cpu,debug"}), {}, "cpu"),
        (pod(nodeSelector={"slurmlet.io/partition": "debug"}), BOTH, "debug"),
    ],
)
def test_the_request_has_the_partition_of_the_node_and_a_second_call_changes_nothing(
    apply: Callable[..., Any], item: dict[str, Any], site: dict[str, str], partition: str
) -> None:
    policy = replace(PER_PARTITION, request=RequestPolicy(options=site))
    once = apply(item, decide(item, policy).patch)
    asked = json.loads(once["metadata"]["annotations"][REQUEST])
    assert asked["partition"] == partition
    assert once["spec"]["nodeSelector"] == {"slurmlet.io/partition": partition}
    assert decide(once, policy).patch == ()


SIZED = replace(
    PER_PARTITION,
    sizes={"cpu": (NodeSize(cpus=64, memory=8000),), "debug": (NodeSize(cpus=8, memory=8000),)},
)


def naming(*nodes: str) -> dict[str, Any]:
    return daemon(*nodes)["spec"]["affinity"]  # type: ignore[no-any-return]


@pytest.mark.claim("V12")
@pytest.mark.parametrize(
    "choice",
    [
        {"nodeSelector": {"kubernetes.io/hostname": "slurm-cpu"}},
        {"affinity": affinity([requirement("kubernetes.io/hostname", "In", "slurm-cpu")])},
        {"affinity": naming("slurm-cpu")},
    ],
)
@pytest.mark.parametrize("site", [{}, {"partition": "debug"}])
def test_who_names_a_node_gets_it_and_is_compared_with_its_partition(
    apply: Callable[..., Any], choice: dict[str, Any], site: dict[str, str]
) -> None:
    containers = [{"name": "web", "resources": {"requests": {"cpu": "32"}}}]
    policy = replace(SIZED, request=RequestPolicy(options=site))
    chosen = selected(apply, pod(containers=containers, **choice), policy)
    assert chosen == choice.get("nodeSelector")
    containers[0]["resources"] = {"requests": {"cpu": "65"}}
    denial = decide(pod(containers=containers, **choice), policy).denial
    assert "the largest node of partition cpu has 64 CPUs" in str(denial)


@pytest.mark.claim("V12")
def test_the_node_of_a_partition_is_kept_when_a_manifest_is_applied_again(
    apply: Callable[..., Any],
) -> None:
    before = pod(nodeSelector={"slurmlet.io/partition": "debug"})
    for after in (pod(), pod(nodeSelector={})):
        patched = apply(after, change(before, after, policy=PER_PARTITION).patch)
        assert patched["spec"]["nodeSelector"] == before["spec"]["nodeSelector"]
    other = pod(nodeSelector={"a": "b"})
    same = change(other, pod(nodeSelector={"a": "b"}), policy=PER_PARTITION)
    assert same.patch == ()


def test_every_node_that_the_agent_names_is_ours() -> None:
    for name in PER_PARTITION.nodes:
        assert decide(pod(nodeName=name), PER_PARTITION).patch
        assert decide(daemon(name), PER_PARTITION).patch
    assert decide(pod(nodeName="slurm"), PER_PARTITION).patch == ()
    wrong = pod({"slurmlet.io/partition": "cpu"}, nodeName="slurm-debug")
    assert "the pod's node is partition debug" in str(decide(wrong, PER_PARTITION).denial)
