"""Which logs may be forgotten."""

import os
from pathlib import Path

from slurmlet.supervisor.retention import forgettable


def make(path: Path, *, age: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    os.utime(path, (1000 - age, 1000 - age))


def test_only_what_ended_long_ago(tmp_path: Path) -> None:
    make(tmp_path / "pods/old/exit.json", age=100)
    make(tmp_path / "pods/new/exit.json", age=1)
    make(tmp_path / "pods/running/main/0.log", age=500)
    make(tmp_path / "boot/1.boot", age=100)
    make(tmp_path / "boot/2.boot", age=1)
    assert forgettable(tmp_path, before=950) == [tmp_path / "pods/old", tmp_path / "boot/1.boot"]


def test_nothing_there(tmp_path: Path) -> None:
    assert forgettable(tmp_path, before=1000) == []
