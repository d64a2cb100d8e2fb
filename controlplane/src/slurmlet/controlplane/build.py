"""The cache of built binaries: what is missing or damaged is built, the rest is used."""

import errno
import fcntl
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from slurmlet.controlplane.binaries import BINARIES, DEFAULT_SET, Binary, linker_flags
from slurmlet.controlplane.errors import ControlPlaneError
from slurmlet.controlplane.golang import COMPILE_FLAGS, Toolchain

READY_VARIABLE = "SLURMLET_BINARIES"
SUMS = "SHA256SUMS"
UNUSED_DAYS = 14
"""An entry (300 MB) that no build asked for in this time belongs to an old pin and is removed."""
MIB = 1024 * 1024

Report = Callable[[str], None]


def cache_root() -> Path:
    """$XDG_CACHE_HOME/slurmlet/controlplane."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "slurmlet" / "controlplane"


def source_root() -> Path:
    """Where the Go modules are: beside `src` in a checkout, inside the package when installed."""
    here = Path(__file__).resolve().parent
    for candidate in (here / "go", here.parents[2] / "go"):
        if candidate.is_dir():
            return candidate
    raise ControlPlaneError(f"the pinned Go modules are missing: {here / 'go'} does not exist")


def ensure(
    names: Sequence[str],
    *,
    cache: Path,
    source: Path,
    find_go: Callable[[], Toolchain],
    report: Report,
    known: Mapping[str, Binary] = BINARIES,
) -> Path:
    """The directory that holds all of `names` (empty: the default set), built if need be from the
    modules in `source`, which are what `known` says.

    Raises ControlPlaneError: an unknown name, no Go, a full disk, a failed build.
    """
    wanted = _wanted(names, known)
    ready = os.environ.get(READY_VARIABLE)
    if ready:
        return _ready(Path(ready), wanted)
    go = find_go()
    entry = cache / key(source, go.version, known=known)
    try:
        entry.mkdir(parents=True, exist_ok=True)
        # Looked at without the lock first: nobody waits for a build of what he does not need.
        if not all(_intact(entry, binary) for binary in wanted):
            with _locked(entry, report):
                missing = [binary for binary in wanted if not _intact(entry, binary, report)]
                if missing:
                    _build(missing, go=go, source=source, entry=entry, report=report)
                _prune(cache, keep=entry, report=report)
        os.utime(entry / SUMS)
    except OSError as error:
        raise _full_or_broken(error, entry) from None
    return entry


def key(source: Path, go_version: str, *, known: Mapping[str, Binary] = BINARIES) -> str:
    """Digest of all that decides what comes out: pins, own sources, flags, Go, machine."""
    digest = hashlib.sha256()
    files = [path for path in source.rglob("*") if path.name in ("go.mod", "go.sum", "main.go")]
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(source)} {len(content)}\n".encode() + content)
    modules = sorted({binary.module for binary in known.values()})
    flags = [*COMPILE_FLAGS, *(linker_flags(module) for module in modules)]
    digest.update("\n".join([*flags, go_version, platform.machine()]).encode())
    return digest.hexdigest()[:16]


def _wanted(names: Sequence[str], known: Mapping[str, Binary]) -> list[Binary]:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ControlPlaneError(f"{unknown[0]!r} cannot be built: known are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or DEFAULT_SET)]


def _ready(directory: Path, wanted: Sequence[Binary]) -> Path:
    for binary in wanted:
        path = directory / binary.name
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise ControlPlaneError(
                f"{READY_VARIABLE}={directory} has no executable {binary.name}: "
                "put it there or unset the variable to build it"
            )
    return directory.resolve()


def _intact(entry: Path, binary: Binary, report: Report = lambda _: None) -> bool:
    expected = _sums(entry).get(binary.name)
    path = entry / binary.name
    if expected is None or not path.exists():
        return False
    if _sha256(path) == expected and os.access(path, os.X_OK):
        return True
    report(f"cached {path} is damaged (its checksum differs): building it again")
    return False


def _build(
    missing: Sequence[Binary], *, go: Toolchain, source: Path, entry: Path, report: Report
) -> None:
    _check_space(missing, entry)
    for module in dict.fromkeys(binary.module for binary in missing):
        binaries = [binary for binary in missing if binary.module == module]
        names = ", ".join(binary.name for binary in binaries)
        dest = entry / f".building-{module}"
        shutil.rmtree(dest, ignore_errors=True)
        dest.mkdir()
        log = entry / f"build-{module}.log"
        started = time.monotonic()
        report(f"building {names} with {go.version}")
        finished = go.compile(
            binaries,
            source=source / module,
            ldflags=linker_flags(module),
            dest=dest,
            log=log,
            tick=lambda elapsed, names=names: report(  # type: ignore[misc]
                f"building {names}: {_clock(elapsed)}"
            ),
        )
        if finished.status != 0:
            shutil.rmtree(dest, ignore_errors=True)
            raise _failure(finished.output, names=names, log=log, entry=entry)
        for binary in binaries:
            _install(dest / binary.name, entry)
        shutil.rmtree(dest, ignore_errors=True)
        report(f"built {names} in {_clock(time.monotonic() - started)}")


def _install(built: Path, entry: Path) -> None:
    """The checksum is written last: a crash before that leaves a binary that is built again."""
    if not built.is_file():
        raise ControlPlaneError(f"go reported success but did not write {built.name}")
    built.chmod(0o755)
    sums = _sums(entry) | {built.name: _sha256(built)}
    built.replace(entry / built.name)
    partial = entry / f"{SUMS}.new"
    partial.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))
    partial.replace(entry / SUMS)


def _sums(entry: Path) -> dict[str, str]:
    try:
        lines = (entry / SUMS).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split("  ", 1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _check_space(missing: Sequence[Binary], entry: Path) -> None:
    """Says so before eight minutes of compiling, not after."""
    needed = sum(binary.size_mib for binary in missing) * 5 // 4 + 16
    free = shutil.disk_usage(entry).free // MIB
    if free < needed:
        raise _disk_full(entry, f"{free} MiB free, {needed} MiB needed")


def _failure(output: str, *, names: str, log: Path, entry: Path) -> ControlPlaneError:
    if os.strerror(errno.ENOSPC).lower() in output.lower():
        return _disk_full(entry, f"go could not write {names}")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    cause = lines[-1] if lines else "no output"
    return ControlPlaneError(f"building {names} failed: {cause} (whole log: {log})")


def _full_or_broken(error: OSError, entry: Path) -> ControlPlaneError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(entry, os.strerror(error.errno))
    return ControlPlaneError(f"the cache {entry} cannot be used: {error}")


def _disk_full(entry: Path, detail: str) -> ControlPlaneError:
    return ControlPlaneError(
        f"disk full: {entry.parent} ({detail}): free some space, set XDG_CACHE_HOME to another "
        f"disk, or set {READY_VARIABLE} to ready binaries"
    )


@contextmanager
def _locked(entry: Path, report: Report) -> Iterator[None]:
    """One builder per entry. Waiting is bounded by the other build, whose compiler has a limit."""
    with entry.with_name(f"{entry.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another build of {entry.name} is running: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prune(cache: Path, *, keep: Path, report: Report) -> None:
    oldest = time.time() - UNUSED_DAYS * 86400
    for sums in cache.glob(f"*/{SUMS}"):
        if sums.parent != keep and sums.stat().st_mtime < oldest:
            report(f"removing {sums.parent}: unused for {UNUSED_DAYS} days")
            shutil.rmtree(sums.parent, ignore_errors=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
