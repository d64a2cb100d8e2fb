"""Termination messages."""

import os
from pathlib import Path
from typing import Any

import pytest

from slurmlet.supervisor.logs import LogText
from slurmlet.supervisor.termination import make_message_file, message_path, read_message

LOG = b"t stdout F one\nt stderr P tw\nt stderr F o\nnoise\n"


def read(tmp_path: Path, *, failed: bool = True, **container: Any) -> str:
    return read_message(
        container, file=tmp_path / "m", log=LogText(tmp_path / "log", newest=0), failed=failed
    )


def test_what_the_container_wrote(tmp_path: Path) -> None:
    os.umask(0o077)
    make_message_file(tmp_path / "m")
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o666
    assert read(tmp_path) == ""
    (tmp_path / "m").write_bytes(b"disk full\xff")
    assert read(tmp_path, failed=False) == "disk full\N{REPLACEMENT CHARACTER}"
    (tmp_path / "m").write_bytes(b"x" * 10_000)
    assert len(read(tmp_path)) == 4096


def test_the_log_stands_in_for_a_failed_container_that_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(LOG)
    policy: dict[str, Any] = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    assert read(tmp_path, **policy) == "one\ntwo\n"
    assert read(tmp_path, failed=False, **policy) == ""
    assert read(tmp_path) == ""
    (tmp_path / "log").write_bytes(b"t stdout F %s\n" % (b"y" * 90) * 100)
    assert len(read(tmp_path, **policy)) == 2048


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_only_files_are_read(tmp_path: Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / "m").symlink_to("/etc/passwd")
    else:
        os.mkfifo(tmp_path / "m")
    assert read(tmp_path) == ""


def test_paths() -> None:
    assert message_path({}) == "/dev/termination-log"
    assert message_path({"terminationMessagePath": "/tmp/m"}) == "/tmp/m"
