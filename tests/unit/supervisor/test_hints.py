"""What steps are told of containers, and which sandbox a supervisor finds."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from slurmlet.supervisor.hints import (
    Announcement,
    Entry,
    Hints,
    default_container,
    is_ready,
    start_time,
)
from slurmlet.supervisor.process import ProcessError
from slurmlet.supervisor.sandbox import Proof, find_proof, find_sandbox

POD: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "alice"},
    "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
}


def entry(pid: int = 7) -> Entry:
    return Entry(pid=pid, start=9, directory="/srv", environment={"A": "1", "B": "x\ny=\udcff"})


def test_a_container_is_told_and_withdrawn(tmp_path: Path) -> None:
    hints = Hints(tmp_path, pod=POD)
    hints.add("b", entry())
    written = json.loads((tmp_path / "containers.json").read_text())
    assert written == {
        "version": 1,
        "namespace": "alice",
        "pod": "web",
        "default": "b",
        "containers": {
            "b": {"pid": 7, "start": 9, "directory": "/srv", "environment": "b.env"},
        },
    }
    assert (tmp_path / "b.env").read_bytes() == b"A=1\0B=x\ny=\xff\0"
    hints.remove("b")
    written = json.loads((tmp_path / "containers.json").read_text())
    assert written["containers"] == {}
    assert "default" not in written


def test_a_full_directory_harms_no_pod(tmp_path: Path) -> None:
    Hints(tmp_path / "missing", pod=POD).add("a", entry())


@pytest.mark.parametrize(
    ("annotation", "running", "chosen"),
    [
        (None, ["b", "a"], "a"),
        (None, ["b"], "b"),
        ("b", ["a", "b"], "b"),
        ("b", ["a"], "a"),
        (None, ["i"], "i"),
        (None, [], ""),
    ],
)
def test_the_default_is_kubectls(annotation: str | None, running: list[str], chosen: str) -> None:
    annotations = {"kubectl.kubernetes.io/default-container": annotation}
    metadata = POD["metadata"] | ({"annotations": annotations} if annotation else {})
    assert default_container(POD | {"metadata": metadata}, running=running) == chosen


async def test_an_announcement_waits_for_the_container(tmp_path: Path) -> None:
    answers = iter([None, None, os.getpid()])
    announcement = Announcement(
        Hints(tmp_path, pod=POD), "a", find=lambda: next(answers), directory="/", environment={}
    )
    await announcement._task
    written = json.loads((tmp_path / "containers.json").read_text())
    assert written["containers"]["a"]["pid"] == os.getpid()
    assert written["containers"]["a"]["start"] == start_time(os.getpid())
    announcement.withdraw()
    assert json.loads((tmp_path / "containers.json").read_text())["containers"] == {}


@pytest.mark.parametrize(
    ("program", "ready"),
    [
        ("/bin/busybox", True),
        ("/usr/bin/crun", False),
        ("/memfd:crun_cloned (deleted)", False),
        ("/usr/libexec/apptainer/bin/starter", False),
        (None, False),
    ],
)
def test_a_container_is_ready_when_its_engine_is_gone(
    tmp_path: Path, program: str | None, ready: bool
) -> None:
    (tmp_path / "7").mkdir()
    if program:
        (tmp_path / "7" / "exe").symlink_to(program)
    assert is_ready(7, proc=tmp_path) is ready


def test_a_process_that_is_gone_has_no_start() -> None:
    assert start_time(2**22 + 1) is None


def test_the_sandbox_is_found_or_its_error_told(tmp_path: Path) -> None:
    assert find_sandbox(12, jobs=tmp_path) is None
    record = tmp_path / "12" / "record.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"namespaces": {"user": {}, "ipc": {}, "uts": {}}}))
    found = find_sandbox(12, jobs=tmp_path)
    assert found is not None
    assert (found.kinds, found.hints) == (("ipc", "uts"), tmp_path / "12" / "pod")
    record.write_text(json.dumps({"error": "no ids", "namespaces": {}}))
    with pytest.raises(ProcessError, match="the pod's sandbox could not be made: no ids"):
        find_sandbox(12, jobs=tmp_path)
    record.write_text("{")
    with pytest.raises(ProcessError, match="record cannot be read"):
        find_sandbox(12, jobs=tmp_path)


def test_what_root_signed_is_brought_along_or_why_there_is_nothing(tmp_path: Path) -> None:
    disabled = tmp_path / "disabled"
    assert find_proof(12, jobs=tmp_path, disabled=disabled) == Proof()
    disabled.write_text("slurmd has PrivateTmp=\n")
    assert find_proof(12, jobs=tmp_path, disabled=disabled) == Proof(
        problem="this node makes none: slurmd has PrivateTmp="
    )
    directory = tmp_path / "12"
    directory.mkdir()
    (directory / "record.json").write_text(json.dumps({"namespaces": {"user": {}}}))
    missing = find_proof(12, jobs=tmp_path)
    assert missing.record is None
    assert "record.munge" in str(missing.problem)
    (directory / "record.munge").write_text("MUNGE:abc:\n")
    assert find_proof(12, jobs=tmp_path) == Proof(record="MUNGE:abc:")
    (directory / "record.json").write_text(json.dumps({"error": "no addresses"}))
    assert find_proof(12, jobs=tmp_path) == Proof(
        problem="the pod's sandbox could not be made: no addresses"
    )
