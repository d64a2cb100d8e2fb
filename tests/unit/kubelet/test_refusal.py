"""Slurm's refusals, with figures and a remedy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.kubelet.slurm.capacity import Inventory, SlurmNode
from slurmlet.kubelet.slurm.refusal import explain

NODES = {
    "c1": SlurmNode(
        name="c1", address="c1", cpus=16, memory=8000, usable=True, partitions=("cpu", "debug")
    ),
    "g1": SlurmNode(
        name="g1",
        address="g1",
        cpus=64,
        memory=4000,
        usable=False,
        gres={"gpu": 4},
        partitions=("gpu",),
    ),
}
TOO_LARGE = "Requested node configuration is not available"


def said(options: dict[str, str], message: str = TOO_LARGE) -> str:
    return explain(message, options=options, user="alice", inventory=Inventory(nodes=NODES))


@pytest.mark.parametrize(
    ("options", "asked", "has"),
    [
        ({"cpus-per-task": "64", "partition": "cpu"}, "64 CPUs", "of partition cpu has 16 CPUs"),
        ({"cpus-per-task": "65"}, "65 CPUs", "the largest node has 64 CPUs"),
        (
            {"cpus-per-task": "8", "ntasks": "3", "partition": "debug,cpu"},
            "24 CPUs",
            "of partition debug,cpu has 16 CPUs",
        ),
        ({"mem": "8001M"}, "8001 MiB of memory", "has 8000 MiB of memory"),
        ({"mem": "9G"}, "9216 MiB of memory", "has 8000 MiB of memory"),
        ({"mem-per-cpu": "1000", "cpus-per-task": "9"}, "9000 MiB of memory", "has 8000 MiB"),
        ({"gres": "gpu:2", "partition": "cpu"}, "2 gpu", "has 0 gpu"),
        ({"gres": "gpu:a100:8,x:1"}, "8 gpu, 1 x", "has 4 gpu, 0 x"),
        ({"gpus": "a100:8"}, "8 gpu", "has 4 gpu"),
        # Each fits somewhere, no node has both.
        (
            {"cpus-per-task": "32", "mem": "6000M"},
            "32 CPUs, 6000 MiB of memory",
            "has all of it: the largest have 64 CPUs, 4000 MiB of memory, or 16 CPUs, 8000 MiB of",
        ),
    ],
)
def test_what_is_too_large_is_told_in_figures(
    options: dict[str, str], asked: str, has: str
) -> None:
    text = said(options)
    assert text.startswith(f"{TOO_LARGE}; the pod asks for {asked} ")
    assert has in text
    assert text.endswith("ask for less, or for a partition with larger nodes")


def test_a_resource_that_no_node_has_is_told_in_figures() -> None:
    text = said({"gres": "fpga:1", "mem": "1M"}, "Invalid generic resource (gres) specification")
    assert "asks for 1 fpga (its overhead included), the largest node has 0 fpga" in text


def test_of_unknown_nodes_no_figures_are_told() -> None:
    assert explain(TOO_LARGE, options={"mem": "1T"}, user="a", inventory=Inventory()) == TOO_LARGE


def test_a_user_without_an_account_learns_what_to_ask_for() -> None:
    text = said({}, "Invalid account or account/partition combination specified")
    assert "ask the administrator to add user alice to one" in text


def test_other_words_stay_as_they_are() -> None:
    assert said({}, "Job dependency problem") == "Job dependency problem"


@given(st.dictionaries(st.sampled_from(["mem", "gres", "gpus", "ntasks", "partition"]), st.text()))
def test_no_options_break_it(options: dict[str, str]) -> None:
    assert said(options).startswith(TOO_LARGE)
