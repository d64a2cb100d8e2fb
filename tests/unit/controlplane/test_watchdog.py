import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.controlplane import watchdog
from slurmlet.controlplane.layout import Process
from slurmlet.controlplane.watchdog import Watchdog, restart_delay


@given(st.integers(min_value=1, max_value=10_000))
def test_the_back_off_grows_and_is_bounded(failures: int) -> None:
    assert 0 < restart_delay(failures) <= restart_delay(failures + 1) <= watchdog.LONGEST_DELAY_S


def server(program: str) -> Process:
    return Process(
        name="server",
        unit="server",
        description="",
        argv=(sys.executable, "-c", program),
        listens=(),
    )


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.arrived = threading.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self.arrived.set()


def started(tmp_path: Path, program: str, report: Callable[[str], None]) -> Watchdog:
    dog = Watchdog([server(program)], log=lambda name: tmp_path / f"{name}.log", report=report)
    dog.start()
    return dog


def read_line(fifo: Path) -> str:
    with fifo.open() as source:
        # To its end: a writer that has not closed yet would be met again by the next reader.
        return source.read().strip()


def test_a_killed_server_comes_back_and_stop_leaves_nothing(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = (
        f"import os, signal\nopen({str(fifo)!r}, 'w').write(f'{{os.getpid()}}\\n')\nsignal.pause()"
    )
    lines = Lines()
    dog = started(tmp_path, program, lines)
    try:
        first = int(read_line(fifo))
        dog.settled()
        os.kill(first, signal.SIGKILL)
        second = int(read_line(fifo))
        assert second != first
        assert dog.pids == {"server": second}
        assert "server was killed by SIGKILL: starting it again" in lines.lines[0]
    finally:
        dog.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_a_server_that_cannot_start_ends_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "FIRST_DELAY_S", 0.001)
    dog = started(tmp_path, "import sys; sys.exit('unknown flag: --x')", lambda _: None)
    assert dog.over.wait(20)
    dog.stop()
    assert dog.failure and "server ended (1) again and again: unknown flag: --x" in dog.failure


def test_a_server_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "FIRST_DELAY_S", 0.001)
    dog = started(tmp_path, "import sys; sys.exit('wal: no space left on device')", lambda _: None)
    assert dog.over.wait(20)
    dog.stop()
    assert dog.failure and dog.failure.startswith("disk full: server")


def test_a_missing_program_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "FIRST_DELAY_S", 0.001)
    spec = Process(name="s", unit="s", description="", argv=("/nowhere/s",), listens=())
    dog = Watchdog([spec], log=lambda name: tmp_path / name, report=lambda _: None)
    dog.start()
    assert dog.over.wait(20)
    dog.stop()
    assert dog.failure
