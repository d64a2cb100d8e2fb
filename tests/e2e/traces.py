"""What a lab could leave on its host: mounts, processes, namespaces, interfaces, cgroups, files."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurmlab.names import CGROUP_PARENT, CGROUP_ROOT, RUN_ROOT

MARK = "SLURMLET_LAB_TEST"
"""Variable in the environment of what a test starts; its descendants inherit it."""

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_NSPAWN = Path("/run/systemd/nspawn")


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything that a lab could leave, without what belongs to other labs.

    A trace is a text such as `mount /x`; its value says who uses it.
    """

    found: Mapping[str, str]

    def __sub__(self, before: "Traces") -> dict[str, str]:
        return {trace: who for trace, who in self.found.items() if trace not in before.found}


def look(*, own: Sequence[str], mark: str) -> Traces:
    """Look at the host. `own`: the test's labs; `mark`: in its processes' environment."""
    others = _other_labs(own)
    seen: dict[str, str] = {}
    seen |= {f"mount {path}": "" for path in _mounts() if not _of(others, path)}
    seen |= {f"cgroup {path}": "" for path in _cgroups() if not _of(others, path)}
    seen |= {f"interface {link}": "" for link in _interfaces()}
    seen |= {f"file {path}": "" for path in _files() if not _of(others, path)}
    foreign_networks = _networks_of(others)
    for process in _processes():
        foreign = _names(others, process.cgroups) or process.namespaces & foreign_networks
        if not foreign and not _names(others, process.words):
            seen |= dict.fromkeys(process.traces(mark), f"{process.pid} {process.words[:80]}")
    return Traces(found=seen)


def wait_until_gone(before: Traces, *, own: Sequence[str], mark: str) -> dict[str, str]:
    """Return what is there and was not before, after giving it some seconds to go.

    The host's other programs come and go; what a lab leaves behind stays.
    """
    left: dict[str, str] | None = None
    deadline = time.monotonic() + 10
    while True:
        fresh = look(own=own, mark=mark) - before
        left = fresh if left is None else {key: left[key] for key in left.keys() & fresh.keys()}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.2)


def _other_labs(own: Sequence[str]) -> frozenset[str]:
    places = [RUN_ROOT, *(path / CGROUP_PARENT for path in CGROUP_ROOT.iterdir())]
    present = {path.name for place in places for path in place.glob("*") if path.is_dir()}
    return frozenset(present - set(own))


def _of(labs: frozenset[str], path: str) -> bool:
    """Tell whether a path belongs to one of these labs, by its directory or by its own name."""
    name = Path(path).name
    return _names(labs, path) or any(
        name.startswith(f"{lab}-") or name == f"slurmlet-lab-{lab}" for lab in labs
    )


def _names(labs: frozenset[str], text: str) -> bool:
    words = [f"{place}/{lab}/" for place in (RUN_ROOT, f"/{CGROUP_PARENT}") for lab in labs]
    return any(word in text + "/" for word in words)


def _mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines}


def _cgroups() -> set[str]:
    """All of labs, and the first level of everything else: below it the host's managers live."""
    found: set[str] = set()
    for hierarchy in CGROUP_ROOT.iterdir():
        found |= {str(path) for path in hierarchy.glob("*") if path.is_dir()}
        for top, _, _ in os.walk(hierarchy / CGROUP_PARENT):
            found.add(top)
    return {path for path in found if Path(path).name != CGROUP_PARENT}


def _interfaces() -> set[str]:
    shown = subprocess.run(
        ["ip", "-j", "link"], capture_output=True, text=True, timeout=30, check=True
    )
    return {link["ifname"] for link in json.loads(shown.stdout)}


def _files() -> set[str]:
    places = [RUN_ROOT, _NSPAWN / "propagate", Path("/run/lock")]
    return {str(path) for place in places for path in place.glob("*")}


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    namespaces: frozenset[str]
    words: str
    cgroups: str
    environment: bytes

    def traces(self, mark: str) -> set[str]:
        """Its namespaces if they are not the host's, and itself if it descends from the test."""
        found = {f"namespace {name}" for name in self.namespaces}
        if f"{MARK}={mark}".encode() in self.environment.split(b"\0"):
            found.add(f"process {self.pid} {self.words[:80]}")
        if str(RUN_ROOT) in self.words or "systemd-nspawn" in self.words:
            found.add(f"process {self.pid} {self.words[:80]}")
        return found


def _processes() -> list[_Process]:
    own = _namespaces_of("self")
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            cgroups = (entry / "cgroup").read_text()
            environment = (entry / "environ").read_bytes()
            namespaces = _namespaces_of(entry.name) - own
        except OSError:
            continue  # ended meanwhile
        process = _Process(
            pid=int(entry.name),
            namespaces=namespaces,
            words=words,
            cgroups=cgroups,
            environment=environment,
        )
        found.append(process)
    return found


def _namespaces_of(pid: str) -> frozenset[str]:
    return frozenset(str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in NAMESPACES)


def _networks_of(labs: frozenset[str]) -> frozenset[str]:
    """Name the network namespaces of labs as /proc does: commands of the host may be in them."""
    found: set[str] = set()
    for pin in (pin for lab in labs for pin in (RUN_ROOT / lab / "ns").glob("*")):
        try:
            found.add(f"net:[{pin.stat().st_ino}]")
        except OSError:
            continue  # went down meanwhile
    return frozenset(found)
