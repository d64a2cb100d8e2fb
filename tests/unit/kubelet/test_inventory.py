"""What sinfo and scontrol say of nodes and partitions, as both releases of Slurm print it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kubelet.fakes import details_of, inventory_of, limits_of, settings_of

from slurmlet.contracts.policy import NodeSize
from slurmlet.kubelet.slurm import capacity
from slurmlet.kubelet.slurm.capacity import Inventory
from slurmlet.kubelet.slurm.inventory import InventoryError, parse

GOLDEN = Path(__file__).parent / "golden"
RELEASES = ("24.11", "26.05")
LINE = "c1|cpu*|4|8000|idle|10.77.0.11|c1|(null)|\n"


def recorded(
    release: str, *, listed: str = "sinfo.txt", settings: str = settings_of()
) -> Inventory:
    found = GOLDEN / release
    return parse(
        listed=(found / listed).read_text(),
        nodes=(found / "nodes.txt").read_text(),
        partitions=(found / "partitions.txt").read_text(),
        settings=settings,
    )


@pytest.fixture(params=RELEASES)
def site(request: pytest.FixtureRequest) -> Inventory:
    """What Slurm printed in the site of `golden/README.md`."""
    return recorded(request.param)


@pytest.mark.claim("V1")
def test_capacity_is_all_that_slurm_has(site: Inventory) -> None:
    everything = capacity.total(site)
    # c1 and c2, gpu1, gpu2, small1, two of the cloud, and five of 8 CPUs and 8000 MiB.
    assert everything.cpus == 2 * 16 + 64 + 32 + 4 + 2 * 8 + 5 * 8
    assert everything.memory == 2 * 8000 + 512000 + 256000 + 4000 + 2 * 16000 + 5 * 8000
    assert everything.gres == {
        "gpu": 7,
        "gpu:a100": 6,
        "gpu:h100": 1,
        "tmpdisk": 500 * 1024**3,
    }
    assert "future1" not in site.nodes
    assert "alone1" not in site.nodes, "no job reaches what is in no partition"


@pytest.mark.claim("V1")
def test_allocatable_is_what_jobs_may_have(site: Inventory) -> None:
    """c1 without its specialised cores and memory, c2, which has a reservation, and what Slurm
    boots when it is needed; not maint1, whose reservation is for maintenance."""
    may = capacity.allocatable(site)
    assert may.cpus == 14 + 16 + 8 + 8
    assert may.memory == 7000 + 8000 + 2 * 16000
    assert may.gres == {}


@pytest.mark.claim("V2")
@pytest.mark.parametrize("release", RELEASES)
def test_every_state_has_a_word_and_keeps_jobs_away_or_not(release: str) -> None:
    now = recorded(release)
    assert {name: (node.state, node.usable) for name, node in now.nodes.items()} == {
        "c1": ("mixed", True),
        "c2": ("reserved", True),
        "cloud1": ("powered_down", True),
        "cloud2": ("powered_down", True),
        "drained1": ("drained", False),
        "failed1": ("fail", False),
        "gpu1": ("down", False),
        "gpu2": ("drained", False),
        "maint1": ("maint", False),
        "res1": ("unknown", False),
        "silent1": ("unknown", False),
        "small1": ("unknown", False),
    }
    later = recorded(release, listed="sinfo-later.txt")
    seen = {name: (later.nodes[name].state, later.nodes[name].usable) for name in now.nodes}
    assert (seen["c1"], seen["c2"]) == (("draining", False), ("maint", False))
    assert seen["cloud1"] == ("powering_up", True), "it boots for its job and does not answer yet"
    assert capacity.states(now)["powered_down"] == 2


@pytest.mark.claim("V3")
def test_the_most_that_one_job_may_have_of_a_node(site: Inventory) -> None:
    most = capacity.largest(site)
    assert most["cpu"] == (NodeSize(cpus=16, memory=8000),)
    assert most["debug"] == (NodeSize(cpus=4, memory=2000),), "MaxCPUsPerNode, MaxMemPerNode"
    # 62 CPUs of gpu1 without the specialised core, at 4000 MiB each (MaxMemPerCPU).
    first, second = most["gpu"]
    assert (first.cpus, first.memory, first.gres["gpu:a100"]) == (62, 62 * 4000, 4)
    assert second.gres == {"gpu": 3, "gpu:a100": 2, "gpu:h100": 1}, "the only one with an H100"
    assert most["secret"][0].cpus == 16, "hidden from the agent, but not from its users"
    assert most["closed"] == (NodeSize(cpus=2, memory=4000),)
    assert "empty" not in most


@pytest.mark.claim("V3")
def test_partitions_have_their_limits(site: Inventory) -> None:
    found = site.partitions
    assert [name for name, item in found.items() if item.default] == ["cpu"]
    assert [name for name, item in found.items() if not item.up] == ["closed"]
    assert found["cpu"].max_minutes == 24 * 60
    assert found["debug"].max_minutes == 30
    assert found["Cloud.X"].max_minutes == 7 * 24 * 60
    assert found["gpu"].max_minutes is None
    assert capacity.allocatable(site.of("debug")).cpus == 2 * 4
    assert capacity.allocatable(site.of("closed")).cpus == 0
    assert capacity.total(site.of("empty")).cpus == 0
    assert sorted(site.of("debug").nodes) == ["c1", "c2"]
    assert (site.nodes["c1"].sockets, site.nodes["cloud1"].sockets) == (1, 8)


@pytest.mark.claim("V3")
@pytest.mark.parametrize("release", RELEASES)
def test_where_a_partition_limits_no_memory_the_site_does(release: str) -> None:
    """slurm.conf, MaxMemPerNode and MaxMemPerCPU; scontrol calls such a partition UNLIMITED."""
    most = capacity.largest(recorded(release, settings=settings_of("MaxMemPerNode", "3000")))
    assert [size.memory for size in most["cpu"]] == [3000]
    assert most["debug"] == (NodeSize(cpus=4, memory=2000),), "it has a limit of its own"
    assert most["gpu"][0].memory == 62 * 4000
    limited = recorded(release, settings=settings_of("MaxMemPerCPU", "300"))
    most = capacity.largest(limited)
    assert [(size.cpus, size.memory) for size in most["cpu"]] == [(16, 4800)]
    assert most["debug"] == (NodeSize(cpus=4, memory=2000),)
    assert limited.partitions["cpu"].max_memory_per_cpu == 300
    for nothing in ("MaxMemPerCPU", "MaxMemPerNode"):
        assert recorded(release, settings=settings_of(nothing, "0")) == recorded(release)


def of_one_partition(
    limits: str, *, memory: str = "MaxMemPerNode", limit: str = "5000"
) -> NodeSize:
    """What is left of a node with 8 CPUs, two sockets and 8000 MiB."""
    listed = "c1|cpu*|8|8000|idle|10.77.0.11|c1|(null)|\n"
    found = parse(
        listed=listed,
        nodes=details_of(listed).replace("Sockets=1", "Sockets=2"),
        partitions=f"PartitionName=cpu\n   {limits}\n",
        settings=settings_of(memory, limit),
    )
    (size,) = capacity.largest(found)["cpu"]
    return size


@pytest.mark.claim("V3")
@pytest.mark.parametrize(
    ("limits", "cpus", "memory"),
    [
        ("MaxCPUsPerNode=UNLIMITED MaxCPUsPerSocket=UNLIMITED", 8, 5000),
        ("MaxCPUsPerNode=UNLIMITED MaxCPUsPerSocket=3", 6, 5000),
        ("MaxCPUsPerNode=5 MaxCPUsPerSocket=3", 5, 5000),
        ("MaxCPUsPerNode=7 MaxCPUsPerSocket=9", 7, 5000),
        ("MaxMemPerNode=6000", 8, 6000),
        # MaxMemPerCPU=0 of a partition lifts the site's limit.
        ("MaxMemPerCPU=UNLIMITED", 8, 8000),
    ],
)
def test_limits_of_a_partition(limits: str, cpus: int, memory: int) -> None:
    assert of_one_partition(limits) == NodeSize(cpus=cpus, memory=memory)


def test_overlapping_partitions_say_which_nodes_they_share(site: Inventory) -> None:
    assert capacity.overlaps(site, "debug") == {"cpu": ["c1", "c2"], "secret": ["c2"]}
    assert capacity.overlaps(site, "gpu") == {}


@pytest.mark.claim("V4")
def test_what_administrators_write_forges_nothing(site: Inventory) -> None:
    """The comments of the recorded site hold what looks like nodes."""
    assert "forged1" not in site.nodes
    assert site.nodes["c2"].cpus == 16
    assert site.nodes["c2"].system_cpus == 0
    assert site.nodes["small1"].system_memory == 0
    assert site.nodes["small1"].system_cpus == 2
    assert (site.nodes["c1"].system_cpus, site.nodes["c1"].system_memory) == (2, 1000)
    assert site.nodes["c1"].usable


@pytest.mark.claim("V4")
@given(st.text(alphabet=st.sampled_from("\n aN1=|"), max_size=30), st.integers(0, 3))
def test_no_comment_adds_a_node_or_makes_one_larger(noise: str, which: int) -> None:
    listed = LINE + "c2|cpu*|8|9000|idle|10.77.0.12|c2|(null)|\n"
    forged = (
        f"NodeName=c{which} Arch=x \n   CPUAlloc=0 CPUEfctv=99 CPUTot=99 \n"
        f"   RealMemory=9 AllocMem=0 FreeMem=N/A Sockets=99 Boards=1\n"
        f"   MemSpecLimit=7\n   State=IDLE\n{noise}\n"
    )
    nodes = details_of(listed).replace("\n\n", f"\n   Comment={noise}\n{forged}\n\n", 1)
    found = parse(listed=listed, nodes=nodes, partitions=limits_of(listed), settings=settings_of())
    assert found == inventory_of(listed)


@pytest.mark.claim("V5")
@pytest.mark.parametrize(
    ("listed", "nodes", "partitions"),
    [
        ("<html>502</html>\n", details_of(LINE), limits_of(LINE)),
        (LINE + "c2|cpu*|8\n", details_of(LINE), limits_of(LINE)),
        (LINE + "c2|cpu*|many|9000|idle|a|c2|(null)|\n", details_of(LINE), limits_of(LINE)),
        (LINE, "Unable to contact slurm controller\n", limits_of(LINE)),
        (LINE, "", limits_of(LINE)),
        (LINE, details_of(LINE), "\0\0\0"),
    ],
)
def test_garbage_is_no_answer(listed: str, nodes: str, partitions: str) -> None:
    with pytest.raises(InventoryError):
        parse(listed=listed, nodes=nodes, partitions=partitions, settings=settings_of())


TEXT = st.text(max_size=200)


@given(TEXT, TEXT, TEXT, TEXT)
def test_any_text_is_an_answer_or_garbage(
    listed: str, nodes: str, partitions: str, settings: str
) -> None:
    try:
        found = parse(listed=listed, nodes=nodes, partitions=partitions, settings=settings)
    except InventoryError:
        return
    assert found.nodes == {}


@pytest.mark.parametrize(
    ("text", "gres"),
    [
        ("(null)", {}),
        ("gpu:4", {"gpu": 4}),
        ("gpu:a100:4(S:0-1),gpu:h100:1(S:0,1)", {"gpu": 5, "gpu:a100": 4, "gpu:h100": 1}),
        ("gpu:1g.10gb:7(S:0),shard:28", {"gpu": 7, "gpu:1g.10gb": 7, "shard": 28}),
        ("disk:no_consume:2K,craynetwork:4", {"disk": 2048, "craynetwork": 4}),
        # Who says no count has one.
        ("gpu,gpu:tesla", {"gpu": 2, "gpu:tesla": 1}),
        ("license:no_consume,:3,", {"license": 1}),
        ("tmp:no_consume:500g,ssd:2TiB,bw:3kb", {"tmp": 500 << 30, "ssd": 2 << 40, "bw": 3000}),
        # Slurm knows no such counts, either.
        ("gpu:1g.10gb,x:4X,y:9e", {}),
    ],
)
def test_generic_resources_by_name_and_type(text: str, gres: dict[str, int]) -> None:
    assert gres_of(text) == gres


ITEM = st.tuples(
    st.sampled_from(["gpu", "disk"]),
    st.sampled_from(["", "a100", "no_consume"]),
    st.none() | st.integers(0, 10**9),
    st.sampled_from(["", *(unit + end for unit in "kmgtp" for end in ("", "b", "ib"))]),
    st.booleans(),
    st.sampled_from(["", "(S:0-1)", "(S:0,1)", "(IDX:0)"]),
)


@given(st.lists(ITEM, max_size=5))
def test_what_slurm_can_be_configured_with_is_counted(
    items: list[tuple[str, str, int | None, str, bool, str]],
) -> None:
    """Slurm's own words: "k" returns 1024, "KB" returns 1000, etc."""
    words: list[str] = []
    wanted: dict[str, int] = {}
    for name, kind, count, unit, upper, sockets in items:
        told = "" if count is None else f"{count}{unit.upper() if upper else unit}"
        words.append(":".join(word for word in (name, kind, told) if word) + sockets)
        base = 1000 if unit.endswith("b") and not unit.endswith("ib") else 1024
        number = 1 if count is None else count * base ** ("kmgtp".find(unit[0]) + 1 if unit else 0)
        keys = [name] if kind in ("", "no_consume") else [name, f"{name}:{kind}"]
        wanted |= {key: wanted.get(key, 0) + number for key in keys if number}
    assert gres_of(",".join(words)) == wanted


def gres_of(text: str) -> Mapping[str, int]:
    return inventory_of(f"c1|cpu*|4|8000|idle|a|c1|{text}|\n").nodes["c1"].gres
