"""One at a time on a job's sandbox: a prolog, an epilog or the garbage collection."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 20.0
"""Seconds to wait for another; below the plugin's own patience with us."""


class Busy(Exception):  # noqa: N818 - it is no error
    """Another one works on this sandbox."""


@contextmanager
def locked(directory: Path, *, make: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a directory, which `make` makes if it is missing.

    Raises:
        FileNotFoundError: it does not exist.
        Busy: another one has held it for too long, or holds it and `wait` is not set.
    """
    deadline = time.monotonic() + (_PATIENCE if wait else 0)
    while True:
        if make:
            # Passable but not readable: flock(2) is open to whoever can open a file for reading.
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(directory, flags)
        try:
            _take(descriptor, deadline=deadline)
            # Whoever held it may have removed the directory.
            if not _is(directory, descriptor):
                continue
            yield
            return
        finally:
            os.close(descriptor)


def _take(descriptor: int, *, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy from None
            time.sleep(0.02)


def _is(directory: Path, descriptor: int) -> bool:
    try:
        there = directory.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
