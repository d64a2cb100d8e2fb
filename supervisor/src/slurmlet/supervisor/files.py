"""Files of the pod's user: written whole, and resolved inside a foreign root."""

import os
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath

_MAX_LINKS = 40
"""As many symbolic links as the kernel follows."""


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file so that readers see it whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.rename(path)


def read_text(path: Path, *, limit: int) -> str:
    """Up to `limit` characters of a file, nothing of one that cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(limit)
    except OSError:
        return ""


def resolve_inside(root: Path, inner: str) -> Path:
    """Where a path of a container leads below its root, with links followed inside that root.

    Components that do not exist stay as they are.

    Raises:
        OSError: too many links.
    """
    pending = list(reversed(PurePosixPath("/", inner).parts[1:]))
    resolved: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            resolved = resolved[:-1]
            continue
        candidate = root.joinpath(*resolved, part)
        try:
            is_link = stat.S_ISLNK(candidate.lstat().st_mode)
        except OSError:
            is_link = False
        if not is_link:
            resolved.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(40, "too many levels of symbolic links", inner)
        target = PurePosixPath(candidate.readlink())
        if target.is_absolute():
            resolved = []
        pending.extend(part for part in reversed(target.parts) if part != "/")
    return root.joinpath(*resolved)


def make_mount_point(root: Path, inner: str, *, directory: bool) -> None:
    """Make the directory or empty file below `root` on which something is to be mounted."""
    path = resolve_inside(root, inner)
    make_open_directory(path if directory else path.parent)
    if not directory and not path.exists():
        path.touch()
        path.chmod(0o644)


def make_open_directory(path: Path) -> None:
    """Make a directory and what is missing above it, for any user of the container to enter."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir()
        # Not by mkdir's mode, which the umask narrows.
        directory.chmod(0o755)
