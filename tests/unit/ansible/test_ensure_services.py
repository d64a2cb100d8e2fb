"""When a service is enabled, started and restarted."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def services(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("roles/common/files/ensure_services.py")


def state(**changes: str) -> dict[str, str]:
    return {
        "LoadState": "loaded",
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        "FragmentPath": "",
        "ActiveEnterTimestampMonotonic": "100000000",
        **changes,
    }


@pytest.mark.parametrize(
    ("given", "changed", "wanted"),
    [
        ({}, 99.9, []),
        ({}, 100.1, ["restart"]),
        ({"UnitFileState": "disabled"}, 99.9, ["enable"]),
        ({"ActiveState": "failed"}, 99.9, ["start"]),
        ({"ActiveState": "inactive", "UnitFileState": "disabled"}, 0, ["enable", "start"]),
        ({"ActiveState": "activating"}, 100.1, ["start"]),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, 0, ["enable", "start"]),
    ],
)
def test_actions(
    services: ModuleType, given: dict[str, str], changed: float, wanted: list[str]
) -> None:
    assert services.actions(state(**given), changed=changed) == wanted


def test_the_newest_file_counts_and_a_missing_one_does_not(
    services: ModuleType, tmp_path: Path
) -> None:
    unit, config = tmp_path / "unit", tmp_path / "config"
    for path, age in ((unit, 100), (config, 10)):
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    reads = [str(config), str(tmp_path / "missing")]
    found = services.last_change(state(FragmentPath=str(unit)), reads)
    assert time.monotonic() - found == pytest.approx(10, abs=2)


def test_a_link_counts_by_when_it_was_made(services: ModuleType, tmp_path: Path) -> None:
    old = tmp_path / "release"
    old.mkdir()
    os.utime(old, (1, 1))
    link = tmp_path / "current"
    link.symlink_to(old)
    found = services.last_change(state(), [str(link)])
    assert time.monotonic() - found == pytest.approx(0, abs=2)


def test_a_unit_is_written_once_and_its_difference_shown(
    services: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = tmp_path / "slurmlet-x.service"
    services.put(unit, "[Unit]\nA=1\n", write=False)
    assert "+A=1" in capsys.readouterr().out
    assert not unit.exists()
    services.put(unit, "[Unit]\nA=1\n", write=True)
    assert unit.read_text() == "[Unit]\nA=1\n"
    assert unit.stat().st_mode & 0o777 == 0o644
    assert capsys.readouterr().out != ""
    services.put(unit, "[Unit]\nA=1\n", write=True)
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == [unit]
