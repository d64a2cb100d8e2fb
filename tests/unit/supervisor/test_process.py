"""Starting and reaping processes for real."""

import os
import signal
import threading
from pathlib import Path

import pytest

from slurmlet.supervisor.process import MAX_OUTPUT, ProcessError, open_null, run, spawn

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


async def test_code_and_output() -> None:
    done = await run(
        ["sh", "-c", "echo out; echo err >&2; exit 3"], environment=ENVIRONMENT, timeout=10
    )
    assert (done.code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


async def test_a_helper_gets_only_the_given_environment() -> None:
    done = await run(["env"], environment={"PATH": "/bin", "A": "b\nc"}, timeout=10)
    assert done.stdout == b"PATH=/bin\nA=b\nc\n"


async def test_signals_and_no_threads() -> None:
    before = threading.active_count()
    with open_null() as null:
        process = spawn(
            ["sleep", "60"], environment=ENVIRONMENT, stdin=null, stdout=null, stderr=null
        )
    assert process.running
    process.kill_group(signal.SIGTERM)
    assert await process.wait() == -signal.SIGTERM
    assert await process.wait() == -signal.SIGTERM
    assert threading.active_count() == before


async def test_what_was_ignored_here_is_not_ignored_there() -> None:
    done = await run(["grep", "SigIgn", "/proc/self/status"], environment=ENVIRONMENT, timeout=10)
    assert int(done.stdout.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


async def test_a_hanging_helper_is_killed_with_its_children(tmp_path: Path) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    read = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    script = 'sleep 60 > "$0" & wait'
    with pytest.raises(ProcessError, match="no end after"):
        await run(["sh", "-c", script, fifo], environment=ENVIRONMENT, timeout=0.3)
    # Its end says that the grandchild is gone.
    os.set_blocking(read, True)
    assert os.read(read, 1) == b""
    os.close(read)


async def test_what_does_not_exist() -> None:
    with pytest.raises(ProcessError, match="no-such-program: No such file"):
        await run(["no-such-program"], environment=ENVIRONMENT, timeout=1)


async def test_output_is_bounded() -> None:
    done = await run(
        ["head", "-c", str(MAX_OUTPUT + 10), "/dev/zero"], environment=ENVIRONMENT, timeout=30
    )
    assert len(done.stdout) == MAX_OUTPUT
