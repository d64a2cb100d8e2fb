"""Keeps a few servers running: a child that ends is started again after a bounded back-off."""

import errno
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from slurmlet.controlplane import process
from slurmlet.controlplane.errors import ControlPlaneError
from slurmlet.controlplane.layout import Process

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 10.0
HEALTHY_S = 30.0
"""A child that ran this long starts with a fresh back-off."""
START_FAILURES = 5
"""How often a child may end before all were ready once; more is no accident."""
STOP_S = 8.0
"""Between SIGTERM and SIGKILL. The API server alone would wait a minute for open watches."""


def restart_delay(failures: int) -> float:
    """Seconds to wait after the n-th failure in a row (n >= 1)."""
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * float(1 << min(failures - 1, 10)))


class _Child:
    def __init__(self, spec: Process) -> None:
        self.spec = spec
        self.server: process.Server | None = None
        self.started = 0.0
        self.failures = 0
        self.due = 0.0


class Watchdog:
    """Runs in a thread of its own, which is the parent of the children (see process.spawn)."""

    def __init__(
        self,
        specs: Sequence[Process],
        *,
        log: Callable[[str], Path],
        report: Callable[[str], None],
    ) -> None:
        self.failure: str | None = None
        self.over = threading.Event()
        self._children = [_Child(spec) for spec in specs]
        self._log = log
        self._report = report
        self._settled = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="control-plane", daemon=True)

    @property
    def pids(self) -> dict[str, int]:
        """Running children by name."""
        return {
            child.spec.name: server.pid
            for child in self._children
            if (server := child.server) is not None
        }

    def start(self) -> None:
        """Starts all children."""
        self._thread.start()

    def settled(self) -> None:
        """All were ready once: from now on restarts never give up."""
        self._settled = True

    def stop(self) -> None:
        """Stops all children; returns when they are gone."""
        with suppress(OSError):
            os.write(self._wake_write, b"x")
        self._thread.join()
        for descriptor in (self._wake_read, self._wake_write):
            with suppress(OSError):
                os.close(descriptor)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ, None)
            try:
                self._supervise(selector)
            except ControlPlaneError as error:
                self.failure = str(error)
            except OSError as error:
                self.failure = f"supervision failed: {error}"
            finally:
                for child in reversed(self._children):
                    if child.server:
                        child.server.stop(grace=STOP_S)
                self.over.set()

    def _supervise(self, selector: selectors.BaseSelector) -> None:
        while True:
            now = time.monotonic()
            waiting = [child for child in self._children if child.server is None]
            for child in waiting:
                if child.due <= now:
                    self._start(child, selector)
            delays = [child.due - now for child in self._children if child.server is None]
            for ready, _ in selector.select(max(0.0, min(delays)) if delays else None):
                if ready.data is None:
                    return
                self._ended(ready.data, selector)

    def _start(self, child: _Child, selector: selectors.BaseSelector) -> None:
        child.server = process.spawn(child.spec.argv, log=self._log(child.spec.name))
        child.started = time.monotonic()
        selector.register(child.server.pidfd, selectors.EVENT_READ, child)

    def _ended(self, child: _Child, selector: selectors.BaseSelector) -> None:
        assert child.server is not None
        selector.unregister(child.server.pidfd)
        status = child.server.reap()
        child.server = None
        now = time.monotonic()
        child.failures = 1 if now - child.started > HEALTHY_S else child.failures + 1
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended ({status})"
        log = self._log(child.spec.name)
        if not self._settled and child.failures >= START_FAILURES:
            raise ControlPlaneError(_diagnosis(child.spec.name, how, log))
        delay = restart_delay(child.failures)
        child.due = now + delay
        self._report(f"{child.spec.name} {how}: starting it again in {delay:g} s (log: {log})")


def _diagnosis(name: str, how: str, log: Path) -> str:
    output = process.tail(log, limit=16 * 1024)
    if os.strerror(errno.ENOSPC).lower() in output.lower():
        return f"disk full: {name} cannot write below {log.parent.parent}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return (
        f"{name} {how} again and again: {lines[-1][-300:] if lines else 'no output'} (log: {log})"
    )
