"""What is known of Slurm's nodes survives every bad answer."""

from collections.abc import Callable

import pytest
from tests.unit.kubelet.fakes import FakeSlurm

from slurmlet.kubelet import survey as surveys
from slurmlet.kubelet.slurm.query import Slurm
from slurmlet.kubelet.survey import Survey

FORWARD = Callable[[float], None]


def survey(slurm: FakeSlurm) -> Survey:
    return Survey(slurm=Slurm(slurm.run), on_look=lambda: None)


async def test_a_look_tells_nodes_partitions_and_the_release() -> None:
    found = survey(FakeSlurm())
    assert (found.looks, found.problem) == (0, "")
    await found.look()
    assert (found.looks, found.problem, found.release) == (1, "", "24.11.5")
    assert list(found.inventory.nodes) == ["c1"]
    assert found.inventory.partitions["cpu"].default


@pytest.mark.claim("V5")
@pytest.mark.parametrize(
    "broken",
    [
        {"silent": True},
        {"nodes": ""},
        {"nodes": "slurm_load_node: Unexpected message received\n", "details": "", "limits": ""},
        {"details": ""},
        {"limits": "\n\n\n"},
        {"settings": "Configuration data as of 2026-01-01T00:00:00\n"},
    ],
)
async def test_a_bad_answer_takes_nothing_away(broken: dict[str, object]) -> None:
    slurm = FakeSlurm()
    found = survey(slurm)
    await found.look()
    before = found.inventory
    for name, value in broken.items():
        setattr(slurm, name, value)
    for _ in range(3):
        await found.look()
    assert found.inventory is before
    assert found.problem
    assert found.looks == 1
    for name in broken:
        setattr(slurm, name, getattr(FakeSlurm(), name))
    await found.look()
    assert not found.problem


@pytest.mark.claim("V5")
async def test_an_empty_list_is_believed_when_it_lasts(clock: FORWARD) -> None:
    slurm = FakeSlurm()
    found = survey(slurm)
    await found.look()
    slurm.nodes, slurm.details, slurm.limits = "", "", "PartitionName=cpu\n   State=UP\n"
    await found.look()
    clock(surveys.EMPTY_SECONDS - 1)
    await found.look()
    assert list(found.inventory.nodes) == ["c1"]
    # Something else in between begins the count anew.
    slurm.nodes, slurm.details, slurm.limits = FakeSlurm().nodes, None, None
    await found.look()
    slurm.nodes, slurm.details = "", ""
    clock(2)
    await found.look()
    assert list(found.inventory.nodes) == ["c1"]
    clock(surveys.EMPTY_SECONDS)
    await found.look()
    assert found.inventory.nodes == {}
    assert not found.problem


async def test_hidden_jobs_are_said_with_the_remedy(caplog: pytest.LogCaptureFixture) -> None:
    slurm = FakeSlurm(private="jobs")
    found = survey(slurm)
    for _ in range(2):
        await found.look()
    assert found.problem.endswith("set AdminLevel=Operator")
    assert [item.message for item in caplog.records if item.levelname == "ERROR"] == [found.problem]
    assert list(found.inventory.nodes) == ["c1"]
    slurm.level = "Operator"
    await found.look()
    assert not found.problem


async def test_nodes_are_known_also_while_the_accounting_cannot_say_who_sees_jobs() -> None:
    found = survey(FakeSlurm(private="jobs", level=None))
    assert await found.look()
    assert list(found.inventory.nodes) == ["c1"]
    assert found.problem.startswith("whether Slurm hides the jobs of pods from the agent")


@pytest.mark.claim("V5")
async def test_silence_in_between_makes_an_empty_list_less_credible(clock: FORWARD) -> None:
    slurm = FakeSlurm()
    found = survey(slurm)
    await found.look()
    slurm.nodes, slurm.details, slurm.limits = "", "", "PartitionName=cpu\n   State=UP\n"
    await found.look()
    slurm.silent = True
    clock(surveys.EMPTY_SECONDS)
    await found.look()
    slurm.silent = False
    await found.look()
    assert list(found.inventory.nodes) == ["c1"]


@pytest.mark.claim("V5")
@pytest.mark.parametrize("said", ["", "slurm\n", None])
async def test_a_release_that_cannot_be_read_spoils_no_look(said: str | None) -> None:
    slurm = FakeSlurm()
    found = survey(slurm)
    slurm.release = said
    await found.look()
    assert (found.looks, found.problem, found.release) == (1, "", "")
    assert list(found.inventory.nodes) == ["c1"]
    slurm.release = "slurm 24.11.5\n"
    await found.look()
    slurm.release = said
    await found.look()
    assert (found.looks, found.release) == (3, "24.11.5")


@pytest.mark.parametrize(
    ("said", "release"),
    [
        ("slurm 24.11.5\n", "24.11.5"),
        ("slurm-wlm 24.11.5\n", "24.11.5"),
        ("slurm 24.11.5+site3\n", "24.11.5+site3"),
        ("slurm 26.05.3 (NERSC)\n", "26.05.3"),
        ("slurm 24.11.5-1.el9~rc\n", "24.11.5-1.el9~rc"),
        ("slurm 26.05.0-0rc1\n", "26.05.0-0rc1"),
    ],
)
async def test_releases_of_sites_and_packagers_are_read(said: str, release: str) -> None:
    slurm = FakeSlurm()
    slurm.release = said
    assert await Slurm(slurm.run).version() == release
