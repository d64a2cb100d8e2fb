"""Starting processes on the host: always with a timeout, always with a readable failure."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from slurmlab.errors import LabError

SECONDS = 60.0
"""What a host command may take when the caller says nothing: `ip`, `mount` and the like take ms."""

_TAIL_LINES = 15


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float = SECONDS,
    stdin: str | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a command and return what it printed.

    Raises LabError when it takes longer than `timeout` seconds or, with `check`, fails.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=None if env is None else dict(env),
        )
    except FileNotFoundError:
        raise LabError(f"{words[0]} is not installed on this host") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(words)[:200]}` did not end within {timeout:.0f} s") from None
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-_TAIL_LINES:]
        raise LabError(f"`{' '.join(words)[:200]}` failed ({done.returncode}): {' | '.join(said)}")
    return done


def run_logged(
    argv: Sequence[str | Path],
    *,
    log: Path,
    timeout: float,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run a long command with its output in the file `log`; return its exit status."""
    with log.open("ab") as sink:
        try:
            return subprocess.run(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
                env=None if env is None else dict(env),
            ).returncode
        except subprocess.TimeoutExpired:
            raise LabError(f"no end within {timeout:.0f} s; its output is in {log}") from None


def spawn(argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str]) -> int:
    """Start a process that outlives this one (its own session, output in `log`); return its pid."""
    with log.open("ab") as sink:
        return subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=dict(env),
        ).pid


class Progress:
    """Lines with the seconds since the start in front."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """Print one line at once, so that a log of a long run can be followed."""
        print(f"[{self.seconds:6.1f} s] {text}", flush=True)
