"""Whether a user's home can take the state of pods, found out before a job is queued.

It runs in a child that has become the user, so that links of the user's lead nowhere else.
"""

import errno
import os
import stat
from pathlib import Path

_PROBE = b"\0" * 4096
"""One block: what a full or over-quota file system refuses, where it still makes empty files."""

_WORDS = {
    errno.ENOENT: "does not exist on the head node; ask the administrator to create it",
    errno.ENOTDIR: "is not a directory; ask the administrator to repair it",
    errno.EACCES: "cannot be written by its user; repair its owner and mode",
    errno.EPERM: "cannot be written by its user; repair its owner and mode",
    errno.EROFS: "is on a file system that is mounted read-only; ask the administrator",
    errno.ENOSPC: "is on a full file system (no space or no inodes left); remove files",
    errno.EDQUOT: "is over quota; remove files or ask the administrator for more",
    errno.ELOOP: "is a loop of symbolic links; repair it",
}


class HomeError(Exception):
    """What is in the way, in words for the pod's author."""


def prepare(directory: Path, *, home: Path) -> None:
    """Make `directory`, where the pods' state goes, and see that it can be written.

    Raises:
        HomeError: it cannot be used as it is.
    """
    try:
        if directory.is_relative_to(home) and home.stat().st_mode & stat.S_IWOTH:
            raise HomeError(f"directory {home} can be written by everybody; use chmod o-w")
        directory.mkdir(parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise HomeError(
                f"directory {directory} belongs to somebody else or can be written by others;"
                " remove it, it is made again"
            )
        _write(directory)
    except OSError as error:
        at = Path(error.filename) if isinstance(error.filename, str) else directory
        raise HomeError(f"directory {_culprit(at, error)} {words(error)}") from None


def words(error: OSError) -> str:
    """What is wrong with a directory, and who does what about it."""
    return _WORDS.get(error.errno or 0, f"cannot be used: {error.strerror}; ask the administrator")


def _culprit(path: Path, error: OSError) -> Path:
    """What to repair: where no directory could be made, the nearest one that is there."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return path
    return next((place for place in (path, *path.parents) if os.access(place, os.F_OK)), path)


def _write(directory: Path) -> None:
    probe = directory / f".probe-{os.getpid()}"
    probe.unlink(missing_ok=True)
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, _PROBE)
    finally:
        try:
            # NFS may tell only here that there is no room.
            os.close(descriptor)
        finally:
            probe.unlink()
