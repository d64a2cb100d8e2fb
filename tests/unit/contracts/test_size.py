"""What cannot be granted by any node, and what nobody knows."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurmlet.contracts.policy import NodeSize
from slurmlet.contracts.size import MOST_SIZES, asked, figures, largest_of, too_large

SIZES = {
    "cpu": (NodeSize(cpus=16, memory=8000),),
    "debug": (NodeSize(cpus=4, memory=64000),),
    "gpu": (NodeSize(cpus=64, memory=4000, gres={"gpu": 4}),),
    "mixed": (
        NodeSize(cpus=64, memory=128_000),
        NodeSize(cpus=16, memory=2_000_000, gres={"gpu": 4}),
    ),
}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"cpus-per-task": "8", "ntasks": "3"}, NodeSize(cpus=24, memory=0)),
        ({"mem": "9G"}, NodeSize(cpus=1, memory=9216)),
        ({"mem-per-cpu": "1000", "cpus-per-task": "9"}, NodeSize(cpus=9, memory=9000)),
        ({"gres": "none"}, NodeSize(cpus=1, memory=0)),
        ({"gres": "NONE", "gpus": "1"}, NodeSize(cpus=1, memory=0, gres={"gpu": 1})),
        (
            {"gres": "gpu:a100:8,x,disk:2K,gpu:1g.10gb"},
            NodeSize(
                cpus=1,
                memory=0,
                gres={"gpu": 9, "gpu:a100": 8, "x": 1, "disk": 2048, "gpu:1g.10gb": 1},
            ),
        ),
        (
            {"gpus": "a100:2", "gres": "gres/gpu=1,gres/gpu:a100=4"},
            NodeSize(cpus=1, memory=0, gres={"gpu": 7, "gpu:a100": 6}),
        ),
    ],
)
def test_what_options_ask_of_a_node(options: dict[str, str], wanted: NodeSize) -> None:
    assert asked(options) == wanted


@pytest.mark.parametrize(
    ("options", "among", "said"),
    [
        ({"cpus-per-task": "17"}, ["cpu"], "17 CPUs (its overhead included), the largest node of"),
        ({"cpus-per-task": "65"}, [], "65 CPUs (its overhead included), the largest node has 64"),
        ({"gres": "gpu:5"}, ["gpu"], "5 gpu (its overhead included), the largest node of"),
        ({"gres": "gpu:1"}, ["cpu", "debug"], "of partition cpu,debug has 0 gpu"),
        # Each fits somewhere, no partition has both.
        ({"cpus-per-task": "16", "mem": "9G"}, ["cpu", "debug"], "16 CPUs, 9216 MiB of memory"),
    ],
)
def test_what_no_node_has_is_told_in_figures(
    options: dict[str, str], among: list[str], said: str
) -> None:
    text = too_large(options, SIZES, among=among)
    assert text is not None
    assert said in text
    assert text.endswith("ask for less, or for a partition with larger nodes")


@pytest.mark.parametrize(
    ("options", "among"),
    [
        ({"cpus-per-task": "16"}, ["cpu"]),
        ({"cpus-per-task": "17"}, ["cpu", "gpu"]),
        ({"cpus-per-task": "64", "mem": "128000"}, ["mixed"]),
        ({"cpus-per-task": "16", "mem": "1T", "gres": "gpu:4"}, ["mixed"]),
        ({"cpus-per-task": "17"}, []),
        ({"cpus-per-task": "999"}, ["hidden"]),
        ({"cpus-per-task": "999"}, ["cpu", "hidden"]),
    ],
)
def test_what_one_may_grant_or_nobody_knows_is_not_too_large(
    options: dict[str, str], among: list[str]
) -> None:
    assert too_large(options, SIZES, among=among) is None
    assert too_large(options, {}, among=among) is None
    assert too_large(options, dict.fromkeys(SIZES, ()), among=among) is None


LESS = "ask for less, or for a partition with larger nodes"


@pytest.mark.parametrize(
    ("options", "counts", "have"),
    [
        (
            {"cpus-per-task": "48", "mem": "1T", "gres": "gpu:2"},
            "48 CPUs, 1048576 MiB of memory, 2 gpu",
            (
                "but no node of partition mixed has all of it: the largest have 64 CPUs, 128000 MiB"
                " of memory, 0 gpu, or 16 CPUs, 2000000 MiB of memory, 4 gpu"
            ),
        ),
        # What one machine has most of alone is told alone.
        (
            {"cpus-per-task": "65", "mem": "1T"},
            "65 CPUs",
            "the largest node of partition mixed has 64 CPUs",
        ),
        (
            {"cpus-per-task": "20", "gres": "gpu:1"},
            "20 CPUs, 1 gpu",
            (
                "but no node of partition mixed has all of it: the largest have 64 CPUs, 0 gpu, or"
                " 16 CPUs, 4 gpu"
            ),
        ),
    ],
)
def test_what_only_different_nodes_have_is_told_of_each(
    options: dict[str, str], counts: str, have: str
) -> None:
    said = too_large(options, SIZES, among=["mixed"])
    assert said == f"the pod asks for {counts} (its overhead included), {have}; {LESS}"


TYPED = {
    "gpu": (
        NodeSize(cpus=8, memory=9, gres={"gpu": 8, "gpu:a100": 8}),
        NodeSize(cpus=8, memory=9, gres={"gpu": 4, "gpu:h100": 3, "gpu:a100": 1}),
    ),
    "old": (NodeSize(cpus=8, memory=9, gres={"gpu": 8}),),
}


@pytest.mark.parametrize(
    ("gres", "among", "said"),
    [
        ("gpu:h100:3", "gpu", None),
        ("gpu:h100:3,gpu:a100:1", "gpu", None),
        ("gpu:h100:4", "gpu", "4 gpu:h100 (its overhead included), the largest node of partition"),
        ("gpu:h100:4", "gpu", "gpu has 3 gpu:h100"),
        ("gpu:h100", "gpu", None),
        (
            "gpu:v100",
            "gpu",
            "1 gpu:v100 (its overhead included), the largest node of partition gpu",
        ),
        ("gpu:h100:9", "gpu", "9 gpu:h100 (its overhead included)"),
        ("gpu:h100:2,gpu:a100:2", "gpu", "2 gpu:h100, 2 gpu:a100 (its overhead included), but no"),
        # Of nodes that tell no types only the sum counts.
        ("gpu:h100:8", "old", None),
        ("gpu:h100:9", "old", "9 gpu (its overhead included), the largest node of partition old"),
    ],
)
def test_types_count_where_nodes_tell_them(gres: str, among: str, said: str | None) -> None:
    text = too_large({"gres": gres}, TYPED, among=[among])
    assert text is None if said is None else said in str(text)


def test_what_a_node_has_is_told_of_that_node() -> None:
    """Slurm may refuse it for another reason."""
    said = figures({"cpus-per-task": "16", "mem": "1T"}, SIZES, among=["mixed"])
    assert (
        f", the largest node of partition mixed has 16 CPUs, 2000000 MiB of memory; {LESS}" in said
    )


def test_of_many_different_nodes_some_are_told() -> None:
    steps = {"all": largest_of(NodeSize(cpus=at, memory=9 - at) for at in range(1, 9))}
    said = figures({"cpus-per-task": "8", "mem": "8"}, steps)
    assert said.count("CPUs") == 1 + 4
    assert said.endswith(f"5 CPUs, 4 MiB of memory, or others; {LESS}")


AMOUNT = st.integers(0, 6)
NODES = st.lists(
    st.builds(
        NodeSize,
        cpus=AMOUNT,
        memory=AMOUNT,
        gres=st.dictionaries(st.sampled_from(["gpu", "disk"]), AMOUNT),
    ),
    min_size=1,
    max_size=3 * MOST_SIZES,
)
POD = st.tuples(AMOUNT.filter(bool), AMOUNT, AMOUNT, AMOUNT)


def fits(pod: tuple[int, int, int, int], node: NodeSize) -> bool:
    have = (node.cpus, node.memory, node.gres.get("gpu", 0), node.gres.get("disk", 0))
    return all(wanted <= count for wanted, count in zip(pod, have, strict=True))


@settings(max_examples=500)
@given(NODES, POD)
def test_too_large_is_what_no_single_node_has(
    nodes: list[NodeSize], pod: tuple[int, int, int, int]
) -> None:
    cpus, memory, gpus, disks = pod
    options = {"cpus-per-task": str(cpus), "mem": str(memory), "gres": f"gpu:{gpus},disk:{disks}"}
    sizes = largest_of(nodes)
    assert len(sizes) <= MOST_SIZES
    refused = too_large(options, {"all": sizes}) is not None
    one_has = any(fits(pod, node) for node in nodes)
    assert not (refused and one_has)
    if len(nodes) <= MOST_SIZES:
        assert refused or one_has


@given(NODES)
def test_sizes_are_the_same_however_nodes_are_listed(nodes: list[NodeSize]) -> None:
    assert largest_of(nodes) == largest_of(reversed(nodes))


OPTIONS = st.dictionaries(
    st.sampled_from(["mem", "mem-per-cpu", "gres", "gpus", "ntasks", "cpus-per-task"]),
    st.text(max_size=8) | st.sampled_from(["1", "9", "9G", "gpu:2", "a100:1", "99999"]),
)


@given(OPTIONS, st.lists(st.sampled_from([*SIZES, "hidden"]), max_size=3))
def test_a_larger_node_never_grants_less(options: dict[str, str], among: list[str]) -> None:
    large = {
        name: [replace(size, cpus=size.cpus * 2, memory=size.memory * 2) for size in sizes]
        for name, sizes in SIZES.items()
    }
    if too_large(options, SIZES, among=among) is None:
        assert too_large(options, large, among=among) is None
