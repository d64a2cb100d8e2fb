"""A pod's scratch, and what killed jobs left."""

import subprocess
import sys
from pathlib import Path

import pytest

from slurmlet.supervisor.scratch import abandoned, make_scratch


def test_made_private_and_removed(tmp_path: Path) -> None:
    scratch = make_scratch(str(tmp_path), job_id=7)
    assert Path(scratch.path).name.startswith("slurmlet-7-")
    assert Path(scratch.path).stat().st_mode & 0o777 == 0o700
    scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_only_what_nobody_holds_is_abandoned(tmp_path: Path) -> None:
    alive = make_scratch(str(tmp_path), job_id=1)
    (tmp_path / "slurmlet-of-another-kind").mkdir()
    (tmp_path / "other").mkdir()
    script = "import sys; from slurmlet.supervisor.scratch import make_scratch as m;"
    script += "m(sys.argv[1], job_id=2); import os; os._exit(9)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=20)
    assert [Path(path).name[:10] for path in abandoned(str(tmp_path))] == ["slurmlet-2"]
    alive.remove()
    assert abandoned(str(tmp_path / "missing")) == []


def test_parts_that_are_gone_already_keep_nothing(tmp_path: Path) -> None:
    scratch = make_scratch(str(tmp_path), job_id=7)
    Path(scratch.path, "containers").rmdir()
    Path(scratch.path, "volumes").rmdir()
    scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_removed_is_abandoned(tmp_path: Path) -> None:
    scratch = make_scratch(str(tmp_path), job_id=7)
    busy = Path(scratch.path, "containers/main.0")
    busy.mkdir()
    scratch.remove()
    assert abandoned(str(tmp_path)) == [scratch.path]


def test_a_scratch_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_scratch(str(tmp_path / "missing"), job_id=1)
