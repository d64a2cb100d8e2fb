"""What is in the way of a pod's state is told before a job is queued."""

import dataclasses
import errno
import os
from pathlib import Path

import pytest

from slurmlet.broker.homes import HomeError, prepare, words
from slurmlet.broker.verbs import answer
from slurmlet.contracts.brokerproto import Answer

from .conftest import Site
from .test_verbs import SUBMIT


def submit(site: Site, home: Path) -> Answer:
    """A submission for a user with this home; its sbatch tells that it was called."""
    site.command("sbatch", "echo 7")
    account = dataclasses.replace(site.account, home=str(home))
    return answer(SUBMIT, settings=site.settings, find=lambda _: account, load=site.load)[0]


def refused(site: Site, home: Path) -> str:
    reply = submit(site, home)
    assert reply.job_id is None
    assert reply.retry
    return str(reply.error)


def test_an_absent_home(site: Site) -> None:
    home = site.directory / "nothing"
    assert refused(site, home) == (
        f"directory {home} does not exist on the head node; ask the administrator to create it"
    )
    Path(site.account.home).rename(home)
    assert submit(site, home).job_id == 7


def test_a_home_that_is_no_directory(site: Site) -> None:
    home = site.directory / "file"
    home.write_text("")
    assert "is not a directory" in refused(site, home)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another owner")
def test_a_home_of_somebody_else(site: Site) -> None:
    home = site.directory / "foreign"
    home.mkdir(mode=0o755)
    assert refused(site, home) == (
        f"directory {home} cannot be written by its user; repair its owner and mode"
    )


def test_a_home_that_everybody_can_write(site: Site) -> None:
    home = Path(site.account.home)
    home.chmod(0o777)
    assert refused(site, home) == f"directory {home} can be written by everybody; use chmod o-w"
    assert list(home.iterdir()) == []
    home.chmod(0o700)
    assert submit(site, home).job_id == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another owner")
def test_a_state_directory_of_somebody_else(site: Site) -> None:
    boot = Path(site.account.home, ".slurmlet/lab/boot")
    boot.mkdir(parents=True)
    assert "belongs to somebody else" in refused(site, Path(site.account.home))


def test_a_home_behind_a_link_is_fine(site: Site) -> None:
    link = site.directory / "link"
    link.symlink_to(site.account.home)
    assert submit(site, link).job_id == 7


def test_a_link_that_leads_in_circles(site: Site) -> None:
    link = site.directory / "link"
    link.symlink_to(link)
    assert "is a loop of symbolic links" in refused(site, link)


def test_nothing_is_left_of_the_look(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir(mode=0o700)
    # What an earlier look left that was killed.
    (tmp_path / f"boot/.probe-{os.getpid()}").write_text("old")
    prepare(tmp_path / "boot", home=tmp_path)
    assert list((tmp_path / "boot").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "full"), (errno.EDQUOT, "over quota"), (errno.EROFS, "read-only")],
)
def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("slurmlet.broker.homes.os.write", fail)
    (tmp_path / "boot").mkdir(mode=0o700)
    with pytest.raises(HomeError, match=f"directory {tmp_path}/boot is .*{said}"):
        prepare(tmp_path / "boot", home=tmp_path)
    assert list((tmp_path / "boot").iterdir()) == []


def test_other_errors_keep_the_system_s_words() -> None:
    assert "Stale file handle" in words(OSError(errno.ESTALE, "Stale file handle"))
