import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.aliases import ALIASES, FLAG_ALIASES, REFUSED
from slurmlet.contracts.annotations import OPTIONS
from slurmlet.contracts.policy import NOTHING_KNOWN, Snapshot
from slurmlet.contracts.request import RequestPolicy
from slurmlet.webhook.decision import Decision
from slurmlet.webhook.pods import OVERRIDDEN, mutate

REQUEST = "status.slurmlet.io/request"
AWAY = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
DEFAULTS = [
    {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for key in AWAY
]


def pod(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"generateName": "web-", "namespace": "alice"}
    if annotations is not None:
        metadata["annotations"] = annotations
    return {
        "metadata": metadata,
        "spec": {
            "schedulerName": "default-scheduler",
            "containers": [{"name": "web", "resources": {"requests": {"cpu": "1500m"}}}],
            "tolerations": DEFAULTS,
            **spec,
        },
    }


def decide(item: dict[str, Any], policy: Snapshot = NOTHING_KNOWN) -> Decision:
    return mutate({"operation": "CREATE", "namespace": "alice", "object": item}, policy)


def change(
    before: dict[str, Any],
    after: dict[str, Any],
    *,
    user: str = "alice",
    group: str = "people",
    policy: Snapshot = NOTHING_KNOWN,
) -> Decision:
    request = {
        "operation": "UPDATE",
        "namespace": "alice",
        "userInfo": {"username": user, "groups": ["system:authenticated", group]},
        "object": after,
        "oldObject": before,
    }
    return mutate(request, policy)


def admitted(apply: Callable[..., Any], item: dict[str, Any]) -> dict[str, Any]:
    decision = decide(item)
    assert decision.denial is None
    result: dict[str, Any] = apply(item, decision.patch)
    return result


def test_a_pod_gets_scheduler_toleration_and_its_request(apply: Callable[..., Any]) -> None:
    result = admitted(apply, pod())
    assert result["spec"]["schedulerName"] == "slurmlet-scheduler"
    assert {"key": "slurmlet.io/slurm", "operator": "Exists", "effect": "NoSchedule"} in result[
        "spec"
    ]["tolerations"]
    assert json.loads(result["metadata"]["annotations"][REQUEST]) == {
        "cpus-per-task": "2",
        "mem": "320M",
    }


def test_the_sites_policy_counts() -> None:
    request = RequestPolicy(options={"qos": "normal"}, pod_overhead_memory=0)
    decision = decide(pod(), Snapshot(request=request))
    (value,) = [op["value"] for op in decision.patch if "annotations" in op["path"]]
    assert json.loads(value[REQUEST])["qos"] == "normal"


@pytest.mark.parametrize("name", [None, "", "default-scheduler"])
def test_a_scheduler_that_nobody_chose_becomes_ours(name: str | None) -> None:
    item = pod()
    item["spec"]["schedulerName"] = name
    assert any(op["path"] == "/spec/schedulerName" for op in decide(item).patch)


def daemon(*nodes: str) -> dict[str, Any]:
    """A pod as the DaemonSet controller makes it for a node."""
    terms = [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        for node in nodes
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    item = pod(affinity={"nodeAffinity": required} if terms else None)
    item["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "agent"}]
    return item


@pytest.mark.parametrize(
    "item",
    [
        pod(schedulerName="volcano"),
        pod({"slurmlet.io/nodes": "2"}, schedulerName="volcano", hostPID=True),
        pod(nodeName="node01"),
        pod(nodeName="node01", schedulerName="slurmlet-scheduler"),
        pod({"kubernetes.io/config.mirror": "x"}, nodeName="slurm"),
        daemon("node01"),
        daemon("node01", "node02"),
    ],
)
def test_pods_that_do_not_go_to_slurm_are_left_alone(item: dict[str, Any]) -> None:
    assert decide(item) == Decision()
    forged = pod({"status.slurmlet.io/job-id": "1"})
    assert (
        change(item, {**item, "metadata": {**forged["metadata"], **item["metadata"]}}).patch == ()
    )


@pytest.mark.parametrize("item", [pod(nodeName="hpc"), daemon("hpc")])
def test_our_node_is_the_one_that_the_agent_names(item: dict[str, Any]) -> None:
    assert decide(item).patch == ()
    assert decide(item, Snapshot(nodes={"hpc": ""})).patch
    assert decide(pod(nodeName="slurm"), Snapshot(nodes={"hpc": ""})).patch == ()


@pytest.mark.parametrize(
    "item",
    [
        pod(schedulerName="slurmlet-scheduler"),
        pod(schedulerName="volcano", nodeName="slurm"),
        pod(nodeName="slurm"),
        daemon("slurm"),
        daemon("node01", "slurm"),
        daemon(),
    ],
)
def test_pods_that_go_to_slurm_get_their_request(
    apply: Callable[..., Any], item: dict[str, Any]
) -> None:
    assert REQUEST in admitted(apply, item)["metadata"]["annotations"]


def test_a_chosen_scheduler_stays(apply: Callable[..., Any]) -> None:
    item = pod(schedulerName="volcano", nodeName="slurm")
    assert admitted(apply, item)["spec"]["schedulerName"] == "volcano"


def test_an_agent_that_is_away_evicts_no_pod(apply: Callable[..., Any]) -> None:
    tolerations = admitted(apply, pod())["spec"]["tolerations"]
    lifted = [item for item in tolerations if item.get("key") in AWAY]
    assert len(lifted) == 2
    assert not any("tolerationSeconds" in item for item in lifted)
    assert decide(pod()).warnings == (), "nobody wrote the 300 seconds, so nobody is warned"


def test_seconds_that_somebody_wrote_are_lifted_with_a_warning() -> None:
    item = pod(tolerations=[{**DEFAULTS[0], "tolerationSeconds": 30}])
    assert "tolerationSeconds 30" in decide(item).warnings[0]


@pytest.mark.parametrize("effect", [{}, {"effect": ""}, {"effect": "NoExecute"}])
@pytest.mark.parametrize("seconds", [30, 300])
def test_no_catch_all_ends_the_toleration_of_an_agent_that_is_away(
    apply: Callable[..., Any], effect: dict[str, str], seconds: int
) -> None:
    """Of all tolerations of a taint the shortest counts; nobody but users writes this one."""
    every = {"operator": "Exists", **effect}
    item = pod(tolerations=[{**every, "tolerationSeconds": seconds}])
    assert every in admitted(apply, item)["spec"]["tolerations"]
    (warning,) = decide(item).warnings
    assert f"tolerationSeconds {seconds} of every taint was removed" in warning


def test_other_tolerations_stay_as_they_are(apply: Callable[..., Any]) -> None:
    own = {"key": "gpu", "effect": "NoExecute", "operator": "Exists", "tolerationSeconds": 5}
    assert own in admitted(apply, pod(tolerations=[own]))["spec"]["tolerations"]


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"key": "slurmlet.io/slurm", "operator": "Exists"},
        {"key": "slurmlet.io/slurm", "operator": "Exists", "effect": "NoSchedule"},
    ],
)
def test_a_taint_that_is_tolerated_already_is_not_tolerated_twice(
    toleration: dict[str, str],
) -> None:
    patch = decide(pod(tolerations=[toleration])).patch
    assert not any(op["path"] == "/spec/tolerations" for op in patch)


def test_what_only_we_write_is_removed_and_said(apply: Callable[..., Any]) -> None:
    item = pod({"status.slurmlet.io/job-id": "1", REQUEST: '{"mem":"1T"}', "note": "kept"})
    annotations = admitted(apply, item)["metadata"]["annotations"]
    assert set(annotations) == {REQUEST, "note"}
    assert json.loads(annotations[REQUEST])["mem"] == "320M"
    assert "status.slurmlet.io/job-id" in decide(item).warnings[0]


def test_a_bad_value_is_denied_with_field_value_and_remedy() -> None:
    denial = decide(pod({"slurmlet.io/time": "soon"})).denial
    assert denial is not None
    assert "slurmlet.io/time" in denial
    assert "'soon'" in denial
    assert "sbatch(1)" in denial


def test_every_error_is_in_one_denial() -> None:
    denial = decide(pod({"slurmlet.io/time": "soon", "slurmlet.io/nodes": "2"})).denial
    assert denial is not None
    assert "slurmlet.io/time" in denial
    assert "slurmlet.io/nodes" in denial


def test_an_old_name_is_read_and_warned_of(apply: Callable[..., Any]) -> None:
    item = pod({"slurm.hpk.io/flags": "--time=5 --ntasks-per-node=1"})
    request = json.loads(admitted(apply, item)["metadata"]["annotations"][REQUEST])
    assert request["time"] == "5"
    assert request["ntasks-per-node"] == "1"
    assert "deprecated" in decide(item).warnings[0]


def test_a_key_with_a_typing_error_is_said() -> None:
    assert "slurmlet.io/partiton" in decide(pod({"slurmlet.io/partiton": "cpu"})).warnings[0]


def test_an_update_is_not_judged_again() -> None:
    """An identity map or a table that became stricter must not hold a pod's end up."""
    bad = pod({"slurmlet.io/nodes": "2"}, hostPID=True)
    assert change(pod(), bad) == Decision()


def test_the_agent_writes_what_only_it_may() -> None:
    after = pod({"status.slurmlet.io/job-id": "7"})
    assert change(pod(), after, user="system:node:slurm", group="system:nodes") == Decision()
    for user, group in (("system:node:slurm", "people"), ("alice", "system:nodes")):
        assert change(pod(), after, user=user, group=group).patch


WRITTEN = st.none() | st.dictionaries(
    st.sampled_from(
        ["status.slurmlet.io/job-id", REQUEST, "status.slurmlet.io/a~b", "note", "x/y"]
    ),
    st.sampled_from(["1", "2", ""]),
    max_size=4,
)


@given(WRITTEN, WRITTEN)
def test_after_any_update_what_only_we_write_is_as_it_was(
    apply: Callable[..., Any], before: dict[str, str] | None, after: dict[str, str] | None
) -> None:
    old, new = pod(before), pod(after)
    once = apply(new, change(old, new).patch)
    kept = once["metadata"].get("annotations") or {}
    ours = {k: v for k, v in (before or {}).items() if k.startswith("status.slurmlet.io/")}
    others = {k: v for k, v in (after or {}).items() if not k.startswith("status.slurmlet.io/")}
    assert kept == others | ours
    assert change(old, once) == Decision()


KEYS = st.sampled_from(
    [
        REQUEST,
        "status.slurmlet.io/a~b",
        "status.slurmlet.io/",
        "slurmlet.io/flags",
        "ns.slurmlet.io/flags",
        "slurmlet.io/engine",
        "slurm-job.vk.io/pre-exec",
        "note",
        "",
        *(f"slurmlet.io/{name}" for name in OPTIONS),
        *FLAG_ALIASES,
        *ALIASES,
        *REFUSED,
    ]
)
VALUES = st.sampled_from(["5", "1", "--time=9", "-p cpu", "--uid=0", "1Gi", ""]) | st.text(
    max_size=8
)
TOLERATIONS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "key": st.sampled_from(["slurmlet.io/slurm", "gpu", "", *AWAY]),
            "operator": st.sampled_from(["Exists", "Equal"]),
            "effect": st.sampled_from(["NoSchedule", "NoExecute", ""]),
            "tolerationSeconds": st.integers(-1, 400),
        },
    ),
    max_size=4,
)
QUANTITIES = st.dictionaries(
    st.sampled_from(["cpu", "memory", "nvidia.com/gpu", "example.org/fpga", "ephemeral-storage"]),
    st.sampled_from(["0", "1", "500m", "64Mi", "1e3", "1E"]),
    max_size=3,
)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["a", "b"])},
        optional={
            "resources": st.fixed_dictionaries(
                {}, optional={"requests": QUANTITIES, "limits": QUANTITIES}
            ),
            "livenessProbe": st.just({"exec": {"command": ["true"]}}),
            "restartPolicy": st.sampled_from(["Always", "Never"]),
            "tty": st.booleans(),
            "securityContext": st.fixed_dictionaries({}, optional={"privileged": st.booleans()}),
            "ports": st.lists(st.just({"containerPort": 80, "hostPort": 80}), max_size=1),
        },
    ),
    max_size=2,
)
SPECS = st.fixed_dictionaries(
    {
        "containers": CONTAINERS,
        "tolerations": TOLERATIONS,
        "schedulerName": st.sampled_from(["default-scheduler", "", "mine", "slurmlet-scheduler"]),
    },
    optional={
        "initContainers": CONTAINERS,
        "nodeName": st.sampled_from(["", "slurm", "node01"]),
        "nodeSelector": st.sampled_from(
            [
                {"slurmlet.io/partition": "debug"},
                {"kubernetes.io/hostname": "slurm-cpu"},
                {"kubernetes.io/role": "agent"},
            ]
        ),
        "activeDeadlineSeconds": st.integers(1, 2**31),
        "hostNetwork": st.booleans(),
        "hostPID": st.booleans(),
        "priorityClassName": st.just("high"),
        "volumes": st.lists(
            st.sampled_from([{"name": "e", "emptyDir": {}}, {"name": "h", "hostPath": {}}]),
            max_size=2,
        ),
    },
)
POLICIES = st.sampled_from(
    [
        NOTHING_KNOWN,
        Snapshot(request=RequestPolicy(locks={"partition": "cpu", "gpus": "1"})),
        Snapshot(
            nodes={"slurm-cpu": "cpu", "slurm-debug": "debug"},
            request=RequestPolicy(options={"partition": "cpu,debug"}),
        ),
    ]
)
"""Pods as the API server lets them through, at what a site may have."""


@given(st.none() | st.dictionaries(KEYS, VALUES, max_size=4), SPECS, POLICIES)
def test_any_pod_is_answered_and_a_second_call_changes_nothing(
    apply: Callable[..., Any],
    annotations: dict[str, str] | None,
    spec: dict[str, Any],
    policy: Snapshot,
) -> None:
    item = pod(annotations, **spec)
    decision = decide(item, policy)
    assert all(isinstance(text, str) and text for text in decision.warnings)
    if decision.denial is not None:
        assert decision.patch == ()
        return
    once = apply(item, decision.patch)
    again = decide(once, policy)
    assert again.denial is None
    assert again.patch == ()
    if decision.patch:
        ours = {k for k in once["metadata"]["annotations"] if k.startswith("status.slurmlet.io/")}
        assert ours == {REQUEST}
        # The same manifest once more, of which the API server takes no field back.
        applied = apply(item, change(once, item, policy=policy).patch)
        for name in OVERRIDDEN:
            assert applied["spec"].get(name) == once["spec"].get(name)
    for key, value in (annotations or {}).items():
        if not key.startswith("status.slurmlet.io/"):
            assert once["metadata"]["annotations"][key] == value


def test_a_pod_from_before_admission_keeps_what_it_has() -> None:
    old = pod(schedulerName="default-scheduler", tolerations=[], nodeSelector={"a": "b"})
    new = pod({"note": "x"}, **{name: old["spec"][name] for name in OVERRIDDEN})
    assert change(old, new) == Decision()
