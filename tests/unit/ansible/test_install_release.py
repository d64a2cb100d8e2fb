"""Which releases stay on a node."""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def install(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("roles/common/files/install_release.py")


@pytest.fixture
def releases(tmp_path: Path) -> list[Path]:
    """From the oldest to the newest."""
    made = [tmp_path / "releases" / name for name in ("r1", "r2", "r3", "r4")]
    for age, path in enumerate(made):
        path.mkdir(parents=True)
        os.utime(path, (1000 + age, 1000 + age))
    return made


def test_the_current_release_stays_to_go_back_to(install: ModuleType, releases: list[Path]) -> None:
    current = releases[0].parent.parent / "current"
    current.symlink_to(releases[0])
    stale = install.stale(releases[3], current=current)
    assert sorted(stale) == releases[1:3]


def test_when_the_new_one_is_already_current_the_newest_other_stays(
    install: ModuleType, releases: list[Path]
) -> None:
    current = releases[0].parent.parent / "current"
    current.symlink_to(releases[3])
    assert sorted(install.stale(releases[3], current=current)) == releases[:2]


def test_nothing_is_current_at_first(install: ModuleType, releases: list[Path]) -> None:
    current = releases[0].parent.parent / "current"
    assert sorted(install.stale(releases[3], current=current)) == releases[:2]
