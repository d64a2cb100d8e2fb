"""The only module of this component that starts processes."""

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurmlet.controlplane.errors import ControlPlaneError

TAIL_BYTES = 256 * 1024
"""How much of a command's output is kept for judging its failure."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An ended command: its exit status (negative: minus the signal) and its joined output."""

    status: int
    output: str


def run(argv: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> Finished:
    """Runs a short command; ControlPlaneError when it cannot start or overruns `timeout` s."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            timeout=timeout,
            check=False,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise _cannot_start(argv[0], error) from None
    except subprocess.TimeoutExpired:
        raise ControlPlaneError(f"{argv[0]} did not end within {timeout:.0f} s") from None
    return Finished(done.returncode, done.stdout)


def run_long(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    tick: Callable[[float], None],
    every: float,
    timeout: float,
) -> Finished:
    """Runs a command for minutes, output in `log`; calls `tick(elapsed)` every `every` s."""
    started = time.monotonic()
    with log.open("wb") as sink:
        try:
            child = subprocess.Popen(
                argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        except OSError as error:
            raise _cannot_start(argv[0], error) from None
        try:
            while True:
                try:
                    status = child.wait(timeout=every)
                    break
                except subprocess.TimeoutExpired:
                    elapsed = time.monotonic() - started
                    if elapsed > timeout:
                        raise ControlPlaneError(
                            f"{argv[0]} did not end within {timeout:.0f} s; its log is {log}"
                        ) from None
                    tick(elapsed)
        except BaseException:
            child.terminate()
            child.wait()
            raise
    return Finished(status, tail(log))


class Server:
    """A running server; `pidfd` becomes readable when it ends."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.pidfd = os.pidfd_open(popen.pid)

    def reap(self) -> int:
        """Waits for its end; its status (negative: minus the signal)."""
        status = self._popen.wait()
        os.close(self.pidfd)
        return status

    def stop(self, *, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds."""
        self._popen.terminate()
        try:
            self._popen.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        self.reap()


def spawn(argv: Sequence[str], *, log: Path) -> Server:
    """Starts a server with its output appended to `log`.

    It dies with the thread that started it, so that a runner killed with SIGKILL leaves no orphan
    on its ports. The signal is set by setpriv, because a preexec_fn is unsafe beside threads.
    """
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    with log.open("ab") as sink:
        try:
            popen = subprocess.Popen(
                [*guard, *argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        except OSError as error:
            raise _cannot_start(argv[0], error) from None
    return Server(popen)


def tail(log: Path, *, limit: int = TAIL_BYTES) -> str:
    """The last `limit` bytes of a log; "" if it cannot be read."""
    try:
        with log.open("rb") as source:
            source.seek(max(0, source.seek(0, os.SEEK_END) - limit))
            return source.read().decode(errors="replace")
    except OSError:
        return ""


def _cannot_start(program: str, error: OSError) -> ControlPlaneError:
    if error.errno == errno.ENOENT:
        return ControlPlaneError(f"{program} does not exist")
    return ControlPlaneError(f"{program} cannot be started: {error.strerror}")
