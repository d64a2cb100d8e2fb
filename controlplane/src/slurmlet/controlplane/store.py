"""A directory of certificates and keys: atomic writes, owners and modes, and a dry run."""

import contextlib
import errno
import fcntl
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slurmlet.controlplane.errors import ControlPlaneError

PUBLIC = 0o644
PRIVATE = 0o600


class Store:
    """Files under one directory; `changed` lists those written or given other rights.

    With `dry` nothing is written: later reads see what would have been written.
    """

    def __init__(self, directory: Path, *, owner: str | None = None, dry: bool = False) -> None:
        self.directory = directory
        self.changed: list[Path] = []
        self._dry = dry
        self._pending: dict[str, bytes] = {}
        self._owner = _uid_gid(owner, dry=dry)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time; a second one fails at once instead of waiting."""
        if self._dry:
            yield
            return
        with _explained(self.directory):
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise ControlPlaneError(
                    f"{self.directory} is being written by another process"
                ) from None
        try:
            yield
        finally:
            os.close(lock)

    def read(self, name: str) -> bytes | None:
        """Content of a file, None if it does not exist."""
        if name in self._pending:
            return self._pending[name]
        path = self.directory / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ControlPlaneError(
                f"{path} cannot be read: {error.strerror}: run as the user that owns it"
            ) from None

    def keep(self, name: str, content: bytes, *, mode: int, shared: bool = False) -> None:
        """Makes the file's content, mode and owner so; does nothing when they are."""
        path = self.directory / name
        owner = self._owner if shared else None
        if self.read(name) == content and self._rights_hold(path, mode=mode, owner=owner):
            return
        self.changed.append(path)
        if self._dry:
            self._pending[name] = content
            return
        with _explained(path):
            if path.parent != self.directory:
                path.parent.mkdir(mode=0o700, exist_ok=True)
            _replace(path, content, mode=mode, owner=owner)

    def _rights_hold(self, path: Path, *, mode: int, owner: tuple[int, int] | None) -> bool:
        try:
            found = path.lstat()
        except FileNotFoundError:
            return self._dry
        if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) != mode:
            return False
        return owner is None or (found.st_uid, found.st_gid) == owner


def _replace(path: Path, content: bytes, *, mode: int, owner: tuple[int, int] | None) -> None:
    partial = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(partial, flags, PRIVATE), "wb") as sink:
            sink.write(content)
            if owner:
                os.fchown(sink.fileno(), *owner)
            os.fchmod(sink.fileno(), mode)
            sink.flush()
            os.fsync(sink.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _uid_gid(owner: str | None, *, dry: bool) -> tuple[int, int] | None:
    if owner is None:
        return None
    try:
        entry = pwd.getpwnam(owner)
    except KeyError:
        if dry:  # on a clean host the dry run comes before the user
            return None
        raise ControlPlaneError(
            f"--owner {owner}: there is no such user: create it first"
        ) from None
    return entry.pw_uid, entry.pw_gid


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ControlPlaneError(f"disk full: {path} could not be written") from None
        raise ControlPlaneError(f"{path} cannot be written: {error.strerror}") from None
