"""What cannot be granted by any node, and what nobody knows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.policy import NodeSize
from slurmlet.contracts.size import asked, too_large

SIZES = {
    "cpu": NodeSize(cpus=16, memory=8000),
    "debug": NodeSize(cpus=4, memory=64000),
    "gpu": NodeSize(cpus=64, memory=4000, gres={"gpu": 4}),
}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"cpus-per-task": "8", "ntasks": "3"}, NodeSize(cpus=24, memory=0)),
        ({"mem": "9G"}, NodeSize(cpus=1, memory=9216)),
        ({"mem-per-cpu": "1000", "cpus-per-task": "9"}, NodeSize(cpus=9, memory=9000)),
        ({"gres": "gpu:a100:8,x"}, NodeSize(cpus=1, memory=0, gres={"gpu": 8, "x": 1})),
        ({"gres": "none"}, NodeSize(cpus=1, memory=0)),
        ({"gres": "NONE", "gpus": "1"}, NodeSize(cpus=1, memory=0, gres={"gpu": 1})),
        ({"gpus": "a100:2", "gres": "gres/gpu=1"}, NodeSize(cpus=1, memory=0, gres={"gpu": 3})),
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


OPTIONS = st.dictionaries(
    st.sampled_from(["mem", "mem-per-cpu", "gres", "gpus", "ntasks", "cpus-per-task"]),
    st.text(max_size=8) | st.sampled_from(["1", "9", "9G", "gpu:2", "a100:1", "99999"]),
)


@given(OPTIONS, st.lists(st.sampled_from([*SIZES, "hidden"]), max_size=3))
def test_a_larger_node_never_grants_less(options: dict[str, str], among: list[str]) -> None:
    large = {
        name: NodeSize(cpus=size.cpus * 2, memory=size.memory * 2, gres=size.gres)
        for name, size in SIZES.items()
    }
    if too_large(options, SIZES, among=among) is None:
        assert too_large(options, large, among=among) is None
