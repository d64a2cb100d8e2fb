"""Which partitions a pod's choice of nodes leaves it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.selection import chosen_partitions

PARTITION = "slurmlet.io/partition"
HOSTNAME = "kubernetes.io/hostname"
SINGLE = {"slurm": ""}
NODES = {"slurm-cpu": "cpu", "slurm-gpu": "gpu"}


def requirement(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def affinity(*terms: list[dict[str, Any]]) -> dict[str, Any]:
    """A required node affinity of one of these terms."""
    required = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


CPU, EITHER = requirement(PARTITION, "In", "cpu"), requirement(PARTITION, "In", "gpu", "cpu")
NOT_GPU, EXISTS = requirement(PARTITION, "NotIn", "gpu"), requirement(PARTITION, "Exists")
LINUX = requirement("kubernetes.io/os", "In", "linux")


@pytest.mark.parametrize(
    ("terms", "partitions"),
    [
        ([], None),
        ([[]], None),
        ([[LINUX]], None),
        ([[CPU]], ("cpu",)),
        ([[LINUX, CPU]], ("cpu",)),
        ([[EITHER]], ("gpu", "cpu")),
        ([[EITHER, CPU]], ("cpu",)),
        ([[CPU, EITHER]], ("cpu",)),
        ([[CPU], [EITHER]], ("cpu", "gpu")),
        ([[NOT_GPU]], ()),
        ([[NOT_GPU, CPU]], ("cpu",)),
        ([[EXISTS]], ()),
        # The pod may go where the second term lets it.
        ([[CPU], [LINUX]], ()),
        ([[CPU], [NOT_GPU]], ()),
    ],
)
def test_what_an_affinity_chooses(terms: Any, partitions: tuple[str, ...] | None) -> None:
    assert chosen_partitions({"affinity": affinity(*terms)}, SINGLE) == partitions


@pytest.mark.parametrize("nothing", [{}, {"affinity": None}, {"affinity": {"nodeAffinity": None}}])
def test_who_says_nothing_chooses_nothing(nothing: Any) -> None:
    assert chosen_partitions(nothing, SINGLE) is None


def on(*names: str, operator: str = "In") -> dict[str, Any]:
    return requirement(HOSTNAME, operator, *names)


@pytest.mark.parametrize(
    ("terms", "partitions"),
    [
        ([[LINUX]], None),
        ([[on("slurm-gpu")]], ("gpu",)),
        ([[on("slurm-gpu", "slurm-cpu", "worker1"), CPU]], ("cpu",)),
        ([[CPU], [on("slurm-gpu")]], ("cpu", "gpu")),
        ([[CPU], [on("worker1")]], ("cpu",)),
        ([[on("worker1")]], ()),
        ([[on("slurm-cpu", operator="NotIn")]], ()),
    ],
)
def test_names_of_nodes_choose_where_each_partition_has_one(
    terms: Any, partitions: tuple[str, ...] | None
) -> None:
    assert chosen_partitions({"affinity": affinity(*terms)}, NODES) == partitions


MAX_TIME, ZONE = "slurmlet.io/max-time", "example.org/zone"


@pytest.mark.parametrize(
    ("term", "partitions"),
    [
        (requirement(MAX_TIME, "In", "unlimited"), ()),
        (requirement(MAX_TIME, "NotIn", "60"), ()),
        (requirement("slurmlet.io/default-partition", "Exists"), ()),
        # An administrator may have given it to some of the nodes.
        (requirement(ZONE, "In", "north"), ()),
        # Charts keep off nodes of other kinds so, which ours are not.
        (requirement("node-role.kubernetes.io/control-plane", "DoesNotExist"), None),
        (requirement(ZONE, "NotIn", "north"), None),
        (requirement("kubernetes.io/arch", "In", "amd64"), None),
        (on("worker1", operator="NotIn"), None),
    ],
)
def test_other_labels_choose_as_far_as_nodes_may_differ_by_them(
    term: Any, partitions: tuple[str, ...] | None
) -> None:
    assert chosen_partitions({"affinity": affinity([term])}, NODES) == partitions
    assert chosen_partitions({"affinity": affinity([term])}, SINGLE) is None


def test_a_selector_by_the_time_limit_chooses() -> None:
    assert chosen_partitions({"nodeSelector": {MAX_TIME: "unlimited"}}, NODES) == ()
    assert chosen_partitions({"nodeSelector": {"disk": "ssd"}}, NODES) is None


def test_so_do_a_selector_and_the_field_of_the_name() -> None:
    selects = {"nodeSelector": {HOSTNAME: "slurm-gpu"}}
    assert chosen_partitions(selects, NODES) == ("gpu",)
    assert chosen_partitions({**selects, "affinity": affinity([LINUX])}, NODES) == ("gpu",)
    assert chosen_partitions({"nodeSelector": {HOSTNAME: "worker1"}}, NODES) == ()
    fields = affinity([])
    (term,) = fields["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    term["matchFields"] = [requirement("metadata.name", "In", "slurm-gpu")]
    assert chosen_partitions({"affinity": fields}, NODES) == ("gpu",)


def test_the_name_of_a_node_for_all_partitions_chooses_none() -> None:
    assert chosen_partitions({"nodeSelector": {HOSTNAME: "slurm"}}, SINGLE) is None
    assert chosen_partitions({"affinity": affinity([on("slurm")], [CPU])}, SINGLE) == ()


@given(st.lists(st.lists(st.sampled_from([CPU, EITHER, NOT_GPU, EXISTS, LINUX])), min_size=1))
def test_a_further_term_never_takes_a_partition_away(terms: Any) -> None:
    fewer, more = ({"affinity": affinity(*some)} for some in (terms[:-1], terms))
    before, after = (chosen_partitions(each, SINGLE) for each in (fewer, more))
    if before and after:
        assert set(before) <= set(after)
    if before == ():
        assert after == ()
