"""What the agent publishes, and when."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.kubelet.fakes import inventory_of

from slurmlet.contracts.identity import Identity
from slurmlet.contracts.policy import NodeSize, Snapshot, decode
from slurmlet.contracts.request import RequestPolicy
from slurmlet.kubelet import policyfile
from slurmlet.kubelet.config import Kubelet, problems
from slurmlet.kubelet.identities import Identities
from slurmlet.kubelet.policyfile import PolicyFile
from slurmlet.kubelet.slurm.capacity import Inventory

SINFO = """\
c1|cpu|4|8000|idle|10.77.0.11|c1|gpu:2|
c2|cpu|8|4000|idle|10.77.0.12|c2|(null)|
c2|debug|8|4000|idle|10.77.0.12|c2|(null)|
"""
MAP = '[namespaces.alice]\nuser = "alice"\npartitions = ["cpu"]\n'


class Site:
    """An agent's policy file with what it is made of, and a clock that tests move."""

    def __init__(self, directory: Path) -> None:
        self.inventory = Inventory()
        self.map = directory / "identity.toml"
        self.map.write_text(MAP)
        self.path = directory / "run" / "policy.json"
        self.path.parent.mkdir()
        self.config = Kubelet(
            server="https://10.77.0.1:6443",
            address="10.77.0.1",
            node_name="hpc",
            identity_file=str(self.map),
            policy_file=str(self.path),
            engines=("apptainer",),
            request=RequestPolicy(default_memory=512, options={"qos": "normal"}),
        )
        self.file = PolicyFile(
            config=self.config,
            identities=Identities(str(self.map)),
            inventory=lambda: self.inventory,
        )

    def read(self) -> Snapshot:
        return decode(self.path.read_bytes())

    def stamp(self) -> int:
        return self.path.stat().st_ino


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time, monotonic and of day, in seconds."""
    now = [1000.0]
    monkeypatch.setattr("slurmlet.kubelet.policyfile.time.monotonic", lambda: now[0])
    monkeypatch.setattr("slurmlet.kubelet.policyfile.time.time", lambda: now[0])
    yield now


@pytest.mark.claim("W94")
async def test_it_says_what_the_webhook_must_know(site: Site, clock: list[float]) -> None:
    site.inventory = inventory_of(SINFO)
    await site.file.publish()
    found = site.read()
    assert found.written == clock[0]
    assert found.identities is not None
    assert found.identities.lookup("alice") == Identity(user="alice", partitions=("cpu",))
    assert found.sizes == {
        "cpu": (
            NodeSize(cpus=8, memory=4000),
            NodeSize(cpus=4, memory=8000, gres={"gpu": 2}),
        ),
        "debug": (NodeSize(cpus=8, memory=4000),),
    }
    assert found.nodes == {"hpc": ""}
    assert found.engines == ("apptainer",)
    assert found.request == site.config.request


async def test_what_is_not_known_is_left_out(site: Site) -> None:
    site.map.write_text("[namespaces.alice]\nuser = 7\n")
    await site.file.publish()
    found = site.read()
    assert found.identities is None
    assert found.sizes == {}


@pytest.mark.claim("W94")
async def test_it_is_written_each_minute_and_at_once_when_something_changed(
    site: Site, clock: list[float]
) -> None:
    await site.file.publish()
    first = site.stamp()
    clock[0] += policyfile.WRITE_SECONDS - 1
    await site.file.publish()
    assert site.stamp() == first, "nothing changed"
    site.inventory = inventory_of(SINFO)
    await site.file.publish()
    assert "cpu" in site.read().sizes
    site.map.write_text(MAP.replace("cpu", "debug"))
    await site.file.publish()
    found = site.read().identities
    assert found is not None
    assert found.lookup("alice").partitions == ("debug",)
    last = site.read().written
    clock[0] += policyfile.WRITE_SECONDS
    await site.file.publish()
    assert site.read().written == last + policyfile.WRITE_SECONDS


@pytest.mark.claim("W94")
async def test_everybody_may_read_it_whatever_the_umask(site: Site) -> None:
    before = os.umask(0o077)
    try:
        await site.file.publish()
        site.inventory = inventory_of(SINFO)
        await site.file.publish()
    finally:
        os.umask(before)
    assert stat.S_IMODE(site.path.stat().st_mode) == 0o644
    assert list(site.path.parent.iterdir()) == [site.path]


async def test_a_reader_has_the_old_or_the_new_file_and_never_half_of_one(site: Site) -> None:
    await site.file.publish()
    with site.path.open() as held:
        site.inventory = inventory_of(SINFO)
        await site.file.publish()
        assert decode(held.read()).sizes == {}


async def test_what_a_killed_agent_left_half_written_is_no_hindrance(site: Site) -> None:
    (site.path.parent / ".policy.json.new").write_text("{")
    await site.file.publish()
    assert site.read().engines == ("apptainer",)


async def test_a_link_in_the_way_is_not_followed(site: Site, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (site.path.parent / ".policy.json.new").symlink_to(victim)
    await site.file.publish()
    assert victim.read_text() == "kept"
    assert not site.path.exists()


@pytest.mark.claim("W94")
async def test_a_failed_write_is_said_once_and_repeated(
    site: Site, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    site.path.parent.rmdir()
    for _ in range(3):
        await site.file.publish()
    (said,) = caplog.messages
    assert f"{site.path} cannot be written: No such file or directory" in said
    site.path.parent.mkdir()
    await site.file.publish()
    assert site.read().written == clock[0]
    assert caplog.messages[1:] == [f"{site.path} is written again"]


def test_a_relative_path_is_refused(site: Site) -> None:
    config = Kubelet(server="https://x", address="10.0.0.1", policy_file="policy.json")
    assert problems(config) == ["kubelet.policy_file: 'policy.json' is no absolute path"]
    assert problems(site.config) == []
