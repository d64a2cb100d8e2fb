"""Pods and nodes as any API server may return them, and what must not cost a pod its node."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurmlet.scheduler.verdict import Verdict, verdict

NAMES = st.sampled_from(["", "a", "slurmlet.io/slurm", "slurmlet.io/partition", "cpu", "debug"])
TEXTS = NAMES | st.text(max_size=12)
NUMBERS = st.integers().map(str) | st.sampled_from(
    ["0", "1", "5", "17", "100m", "1e99", "9" * 60, "-3", "1.5Gi", "many", ""]
)
LABELS = st.dictionaries(TEXTS, TEXTS, max_size=3)
AMOUNTS = st.dictionaries(
    st.sampled_from(
        ["cpu", "memory", "pods", "nvidia.com/gpu", "example.com/foo", "hugepages-2Mi"]
    ),
    NUMBERS,
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
SIZE = st.fixed_dictionaries(
    {},
    optional={
        "cpu": NUMBERS | JSON,
        "memory": NUMBERS | JSON,
        "gres": st.dictionaries(TEXTS, NUMBERS) | JSON,
    },
)
LARGEST = (
    TEXTS
    | JSON.map(json.dumps)
    | st.dictionaries(NAMES, SIZE | st.lists(SIZE, max_size=2), max_size=3).map(json.dumps)
)


def missing(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def table(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object of which each field may be null or not there."""
    return st.fixed_dictionaries(
        {}, optional={name: missing(strategy) for name, strategy in fields.items()}
    )


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(strategy, max_size=3)


REQUIREMENT = table(
    key=TEXTS,
    operator=st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Near"]),
    values=some(TEXTS | NUMBERS),
)
TERMS = some(table(matchExpressions=some(REQUIREMENT), matchFields=some(REQUIREMENT)))
EFFECT = st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule", ""])
TAINT = table(key=TEXTS, value=TEXTS | NUMBERS, effect=EFFECT)
TOLERATION = table(
    key=TEXTS,
    operator=st.sampled_from(["Exists", "Equal", "Lt", "Gt", "Near", ""]),
    value=TEXTS | NUMBERS,
    effect=EFFECT,
)
CONTAINER = st.fixed_dictionaries(
    {"name": TEXTS},
    optional={"resources": missing(table(requests=AMOUNTS, limits=AMOUNTS))},
)
SPEC = table(
    nodeSelector=LABELS,
    affinity=table(
        nodeAffinity=table(
            requiredDuringSchedulingIgnoredDuringExecution=table(nodeSelectorTerms=TERMS)
        )
    ),
    tolerations=some(TOLERATION),
    containers=some(CONTAINER),
    initContainers=some(CONTAINER),
    overhead=AMOUNTS,
    volumes=some(
        table(
            name=TEXTS,
            persistentVolumeClaim=table(claimName=TEXTS),
            ephemeral=table(volumeClaimTemplate=table()),
            emptyDir=table(),
        )
    ),
    resourceClaims=some(table(name=TEXTS)),
)
ANNOTATIONS = st.fixed_dictionaries(
    {},
    optional={
        "slurmlet.io/partition": TEXTS,
        "slurmlet.io/gres": TEXTS,
        "slurmlet.io/flags": st.text(),
        "slurmlet.io/mem": NUMBERS,
        "status.slurmlet.io/request": TEXTS
        | JSON.map(json.dumps)
        | st.dictionaries(
            st.sampled_from(["mem", "cpus-per-task", "gres", "partition"]), TEXTS | NUMBERS
        ).map(json.dumps),
    },
)
POD = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries({}, optional={"annotations": missing(ANNOTATIONS)}),
        "spec": SPEC,
    }
)
NODE = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"name": st.sampled_from(["a", "b", "slurm"])},
            optional={
                "labels": missing(LABELS),
                "annotations": missing(table(**{"slurmlet.io/largest": LARGEST})),
            },
        )
    },
    optional={
        "spec": missing(table(taints=some(TAINT), unschedulable=st.booleans())),
        "status": missing(table(capacity=AMOUNTS, allocatable=AMOUNTS)),
    },
)
NODES = st.lists(NODE, max_size=3, unique_by=lambda node: node["metadata"]["name"])
RUNNING = missing(st.dictionaries(st.sampled_from(["a", "b", "slurm"]), st.integers()))


@pytest.mark.claim("K24")
@given(pod=POD, nodes=NODES, running=RUNNING)
def test_there_is_a_node_or_a_reason(
    pod: dict[str, Any], nodes: list[dict[str, Any]], running: dict[str, int] | None
) -> None:
    before = copy.deepcopy((pod, nodes))
    found = verdict(pod, nodes, running=running)
    assert (pod, nodes) == before
    if found.node is None:
        prefix = f"0/{len(nodes)} nodes are available: " if nodes else "no nodes available to "
        assert found.reason.startswith(prefix)
        assert found.reason.endswith(".")
    else:
        assert found == Verdict(node=found.node)
        assert found.node in [node["metadata"]["name"] for node in nodes]


# Small domains, so that pods and nodes have something to do with each other.
KEY, VALUE = st.sampled_from("ab"), st.sampled_from(["1", "2"])
HARD = st.sampled_from(["NoSchedule", "NoExecute"])
TAINTS = st.lists(st.fixed_dictionaries({"key": KEY, "value": VALUE, "effect": HARD}), max_size=3)
TOLERATIONS = st.lists(
    st.fixed_dictionaries(
        {"operator": st.sampled_from(["Exists", "Equal", "Lt", "Gt"])},
        optional={"key": KEY, "value": VALUE, "effect": HARD},
    ),
    max_size=4,
)
SELECTOR = st.dictionaries(KEY | st.just("slurmlet.io/partition"), VALUE, max_size=3)
COUNTS = st.integers(0, 4)
MACHINES = st.dictionaries(
    VALUE,
    st.lists(
        st.fixed_dictionaries({"cpu": COUNTS, "memory": COUNTS, "gres": st.just({})}), max_size=2
    ),
    max_size=2,
)


def fits(node: dict[str, Any], *, requests: dict[str, int] | None = None, **spec: Any) -> bool:
    main = {"name": "main", "resources": {"requests": requests or {}}}
    pod = {"metadata": {}, "spec": {"containers": [main], **spec}}
    return verdict(pod, [{"metadata": {"name": "slurm"}, **node}]).node is not None


@pytest.mark.claim("K22")
@given(taints=TAINTS)
def test_who_tolerates_each_taint_exactly_is_let_in(taints: list[dict[str, str]]) -> None:
    node = {"spec": {"taints": taints}}
    assert fits(node, tolerations=[{**taint, "operator": "Equal"} for taint in taints])
    assert fits(node, tolerations=[]) is not bool(taints)


@pytest.mark.claim("K24")
@given(taints=TAINTS, tolerations=TOLERATIONS, index=st.integers(0, 3))
def test_a_toleration_more_or_a_taint_less_loses_no_node(
    taints: list[dict[str, str]], tolerations: list[dict[str, str]], index: int
) -> None:
    node = {"spec": {"taints": taints}}
    fewer = tolerations[:index] + tolerations[index + 1 :]
    if fits(node, tolerations=fewer):
        assert fits(node, tolerations=tolerations)
        assert fits({"spec": {"taints": taints[1:]}}, tolerations=fewer)


@pytest.mark.claim("K24")
@settings(max_examples=500)
@given(labels=SELECTOR, selector=SELECTOR, machines=MACHINES, data=st.data())
def test_a_wish_less_loses_no_node(
    labels: dict[str, str],
    selector: dict[str, str],
    machines: dict[str, Any],
    data: st.DataObject,
) -> None:
    annotations = {"slurmlet.io/largest": json.dumps(machines)}
    node = {"metadata": {"name": "slurm", "labels": labels, "annotations": annotations}}
    kept = data.draw(st.sets(st.sampled_from(sorted(selector)))) if selector else set()
    if fits(node, nodeSelector=selector):
        assert fits(node, nodeSelector={key: selector[key] for key in kept})


@pytest.mark.claim("K24")
@given(
    machines=MACHINES,
    capacity=st.fixed_dictionaries({"cpu": st.just("4"), "x.io/y": COUNTS.map(str)}),
    less=st.fixed_dictionaries({"cpu": COUNTS, "memory": COUNTS, "x.io/y": COUNTS}),
    more=st.fixed_dictionaries({"cpu": COUNTS, "memory": COUNTS, "x.io/y": COUNTS}),
)
def test_a_smaller_request_loses_no_node(
    machines: dict[str, Any], capacity: dict[str, str], less: dict[str, int], more: dict[str, int]
) -> None:
    annotations = {"slurmlet.io/largest": json.dumps(machines)}
    node = {
        "metadata": {"name": "slurm", "annotations": annotations},
        "status": {"capacity": capacity},
    }
    larger = {name: less[name] + more[name] for name in less}
    if fits(node, requests=larger):
        assert fits(node, requests=less)


@pytest.mark.claim("K24")
@given(pod=POD, nodes=NODES, data=st.data())
def test_a_pod_is_bound_if_one_of_the_nodes_would_do(
    pod: dict[str, Any], nodes: list[dict[str, Any]], data: st.DataObject
) -> None:
    bound = verdict(pod, data.draw(st.permutations(nodes))).node
    assert (bound is not None) is any(verdict(pod, [node]).node for node in nodes)
    assert bound == verdict(pod, nodes).node
