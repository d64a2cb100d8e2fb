"""Directories cached by content: built aside, checked, renamed into place, never changed again."""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slurmlab.errors import LabError

STAMP = "stamp.json"
LOCK_WAIT_SECONDS = 1800.0
"""Two labs may want the same entry at once; the second waits as long as a cold build may take."""


def cache_dir() -> Path:
    """Where the lab caches what takes minutes to build."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "slurmlet" / "lab"


def digest(*parts: str | bytes | Path) -> str:
    """Return a short key over texts, files and directories (names, modes and contents)."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
            for file in files:
                if "__pycache__" in file.parts:
                    continue
                name = file.relative_to(part) if part.is_dir() else file.name
                total.update(f"{name} {file.stat().st_mode & 0o111:o}\0".encode())
                total.update(hashlib.sha256(file.read_bytes()).digest())
        else:
            data = part.encode() if isinstance(part, str) else part
            total.update(hashlib.sha256(data).digest())
    return total.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached directory: `tree` is the content, the stamp beside it says what it must be."""

    path: Path

    @property
    def tree(self) -> Path:
        """The content."""
        return self.path / "tree"

    def stamp(self) -> dict[str, object]:
        """Return what the builder recorded; raises LabError when the entry is corrupt."""
        problem = self.problem()
        if problem:
            raise LabError(f"{self.path} is corrupt ({problem}): remove it and run again")
        loaded: dict[str, object] = json.loads((self.path / STAMP).read_text())
        return loaded

    def problem(self) -> str | None:
        """Say what is wrong with the entry, or None. Cheap: one pass over names, no contents."""
        try:
            stamp = json.loads((self.path / STAMP).read_text())
            expected = stamp["census"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"unreadable {STAMP}: {error}"
        found = census(self.tree, watched=tuple(stamp.get("watched", ())))
        return None if found == expected else f"its files are not those that were built: {found}"


def census(tree: Path, *, watched: tuple[str, ...]) -> str:
    """Describe a tree: entries two levels deep and digests of the `watched` files."""
    if not tree.is_dir():
        return "no tree"
    names = sorted(
        str(path.relative_to(tree)) for pattern in ("*", "*/*") for path in tree.glob(pattern)
    )
    total = hashlib.sha256("\0".join(names).encode())
    for name in watched:
        path = tree / name
        total.update(path.read_bytes() if path.is_file() else b"missing")
    return f"{len(names)} {total.hexdigest()[:16]}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; raises LabError when another holds it longer than a cold build takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    waited = f"{LOCK_WAIT_SECONDS:.0f} s"
                    raise LabError(f"{path} is locked for {waited}: see who holds it") from None
                time.sleep(0.2)
        yield


def require_space(path: Path, *, gib: float) -> None:
    """Raise LabError unless the disk of `path` has `gib` GiB left."""
    path.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path).free / 2**30
    if free < gib:
        raise LabError(f"the disk of {path} has {free:.1f} GiB free, the lab needs {gib:.0f} there")


def cached(
    name: str,
    *,
    build: Callable[[Path], dict[str, object]],
    gib: float,
    say: Callable[[str], None],
    watched: tuple[str, ...] = (),
) -> Entry:
    """Return the entry `name`, building it when it is absent or corrupt.

    `build` fills the directory it is given and returns facts for the stamp. `gib` is the free space
    in GiB that a build needs; the contents of the `watched` files are checked at each use.
    """
    home = cache_dir()
    entry = Entry(path=home / name)
    with locked(home / "locks" / name):
        if entry.path.exists():
            problem = entry.problem()
            if problem is None:
                os.utime(entry.path)
                return entry
            say(f"cache entry {entry.path} is corrupt ({problem}): building it again")
            shutil.rmtree(entry.path)
        require_space(home, gib=gib)
        aside = home / "tmp" / f"{name}.{os.getpid()}"
        for left in (home / "tmp").glob("*.*"):
            if not Path("/proc", left.suffix[1:]).exists():  # its builder was killed
                shutil.rmtree(left)
        (aside / "tree").mkdir(parents=True)
        try:
            facts = build(aside / "tree")
            stamp = {**facts, "watched": list(watched)}
            stamp["census"] = census(aside / "tree", watched=watched)
            (aside / STAMP).write_text(json.dumps(stamp, indent=1))
            aside.rename(entry.path)
        except OSError as error:
            raise LabError(
                f"building {name} in {home} failed: {error.strerror or error}"
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return entry
