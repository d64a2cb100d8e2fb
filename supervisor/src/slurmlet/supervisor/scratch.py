"""A pod's private directory on the node's scratch, and those that killed jobs left there.

Who holds the lock in a directory is alive; the kernel lets go of it with the process.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

_PREFIX = "slurmlet-"
_LOCK = "lock"
_PARTS = ("memory", "containers", "volumes")


class Scratch:
    """Made by `make_scratch`; the lock is held until `remove` or the end of this process."""

    def __init__(self, path: str, lock: int) -> None:
        self.path = path
        self._lock = lock

    def remove(self) -> None:
        """Remove the directory. One whose parts are not empty keeps its lock, which nobody holds
        any more: it is abandoned."""
        with suppress(OSError):
            for name in _PARTS:
                # Who empties a part may have removed it.
                with suppress(FileNotFoundError):
                    Path(self.path, name).rmdir()
            Path(self.path, _LOCK).unlink()
            Path(self.path).rmdir()
        os.close(self._lock)


def make_scratch(directory: str, *, job_id: int) -> Scratch:
    """A new directory with its parts.

    Raises:
        OSError: `directory` does not exist or cannot be written.
    """
    path = Path(directory, f"{_PREFIX}{job_id}-{os.urandom(4).hex()}")
    path.mkdir(mode=0o700)
    unlocked = path / f"{_LOCK}.new"
    lock = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Under its name only when it is held, or another job would take the directory for abandoned.
    unlocked.rename(path / _LOCK)
    for name in _PARTS:
        (path / name).mkdir(mode=0o700)
    return Scratch(str(path), lock)


def abandoned(directory: str) -> list[str]:
    """This user's directories whose supervisors are gone."""
    result = []
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return []
    for entry in entries:
        try:
            own = entry.stat(follow_symlinks=False).st_uid == os.getuid()
            if not entry.name.startswith(_PREFIX) or not own:
                continue
            lock = os.open(Path(entry.path, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            result.append(entry.path)
        except OSError:
            continue
        finally:
            os.close(lock)
    return result
