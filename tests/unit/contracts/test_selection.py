"""Which partitions a pod's choice of nodes leaves it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.selection import chosen_partitions

PARTITION = "slurmlet.io/partition"


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
    assert chosen_partitions({"affinity": affinity(*terms)}) == partitions


@pytest.mark.parametrize("nothing", [{}, {"affinity": None}, {"affinity": {"nodeAffinity": None}}])
def test_who_says_nothing_chooses_nothing(nothing: Any) -> None:
    assert chosen_partitions(nothing) is None


@given(st.lists(st.lists(st.sampled_from([CPU, EITHER, NOT_GPU, EXISTS, LINUX])), min_size=1))
def test_a_further_term_never_takes_a_partition_away(terms: Any) -> None:
    fewer, more = ({"affinity": affinity(*some)} for some in (terms[:-1], terms))
    before, after = chosen_partitions(fewer), chosen_partitions(more)
    if before and after:
        assert set(before) <= set(after)
    if before == ():
        assert after == ()
