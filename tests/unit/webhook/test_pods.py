import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.policy import NOTHING_KNOWN, Snapshot
from slurmlet.contracts.request import RequestPolicy
from slurmlet.webhook.decision import Decision
from slurmlet.webhook.pods import mutate

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


def test_a_chosen_scheduler_stays(apply: Callable[..., Any]) -> None:
    assert admitted(apply, pod(schedulerName="mine"))["spec"]["schedulerName"] == "mine"


def test_an_agent_that_is_away_evicts_no_pod(apply: Callable[..., Any]) -> None:
    tolerations = admitted(apply, pod())["spec"]["tolerations"]
    lifted = [item for item in tolerations if item.get("key") in AWAY]
    assert len(lifted) == 2
    assert not any("tolerationSeconds" in item for item in lifted)
    assert decide(pod()).warnings == (), "nobody wrote the 300 seconds, so nobody is warned"


def test_seconds_that_somebody_wrote_are_lifted_with_a_warning() -> None:
    item = pod(tolerations=[{**DEFAULTS[0], "tolerationSeconds": 30}])
    assert "tolerationSeconds 30" in decide(item).warnings[0]


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


def test_mirror_pods_and_updates_pass_unchanged() -> None:
    assert decide(pod({"kubernetes.io/config.mirror": "x"})).patch == ()
    assert mutate({"operation": "UPDATE", "object": pod()}, NOTHING_KNOWN).patch == ()


KEYS = st.sampled_from(
    [
        REQUEST,
        "status.slurmlet.io/a~b",
        "status.slurmlet.io/",
        "slurmlet.io/time",
        "slurmlet.io/flags",
        "slurm.hpk.io/flags",
        "note",
        "",
    ]
)
VALUES = st.sampled_from(["5", "--time=9", "-p cpu", "--uid=0", "{}", ""]) | st.text(max_size=8)
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
PODS = st.builds(
    lambda annotations, tolerations, scheduler: pod(
        annotations, tolerations=tolerations, schedulerName=scheduler
    ),
    st.none() | st.dictionaries(KEYS, VALUES, max_size=4),
    TOLERATIONS,
    st.sampled_from(["default-scheduler", "", "mine"]),
)


@given(PODS)
def test_a_second_call_changes_nothing(apply: Callable[..., Any], item: dict[str, Any]) -> None:
    decision = decide(item)
    if decision.denial is not None:
        assert decision.patch == ()
        return
    once = apply(item, decision.patch)
    assert decide(once).patch == ()
    ours = {k for k in once["metadata"]["annotations"] if k.startswith("status.slurmlet.io/")}
    assert ours == {REQUEST}
    for key, value in (item["metadata"].get("annotations") or {}).items():
        if not key.startswith("status.slurmlet.io/"):
            assert once["metadata"]["annotations"][key] == value
