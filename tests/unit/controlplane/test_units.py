from pathlib import Path

import pytest

from slurmlet.controlplane import units
from slurmlet.controlplane.cli import main
from slurmlet.controlplane.config import Config
from slurmlet.controlplane.errors import ControlPlaneError

CONFIG = Config(advertise_address="10.77.0.1")


def test_a_second_run_writes_nothing(tmp_path: Path) -> None:
    assert len(units.ensure(CONFIG, tmp_path)) == 3
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert units.ensure(CONFIG, tmp_path) == []
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    units.ensure(CONFIG, tmp_path)
    edited = tmp_path / "slurmlet-etcd.service"
    edited.write_text("edited\n")
    assert units.ensure(CONFIG, tmp_path) == [str(edited)]
    assert "ExecStart" in edited.read_text()
    assert edited.stat().st_mode & 0o777 == 0o644


def test_a_dry_run_shows_the_difference_and_writes_nothing(tmp_path: Path) -> None:
    lines = units.ensure(CONFIG, tmp_path / "missing", dry=True)
    assert any(line.startswith("+ExecStart=") for line in lines)
    assert not (tmp_path / "missing").exists()
    units.ensure(CONFIG, tmp_path)
    assert units.ensure(CONFIG, tmp_path, dry=True) == []


def test_a_missing_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneError, match="is not a directory"):
        units.ensure(CONFIG, tmp_path / "missing")


def test_the_command_prints_changed_files_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "slurmlet.toml"
    config.write_text('[controlplane]\nadvertise_address = "10.77.0.1"\n')
    arguments = ["units", "--config", str(config), "--dest", str(tmp_path)]
    assert main(arguments) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(arguments) == 0
    assert capsys.readouterr().out == ""
    config.write_text("[controlplane]\n")
    assert main(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1
