"""The lab's own cgroups: processes are found and ended by them, and Slurm's limits live in them.

Slurm's cgroup/v1 plugin makes `/slurm_NODENAME` groups; two labs would collide in them, so each
node sees only a sub-directory of the host's hierarchies, bound to /cg1 (cgroup.conf names it).
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from slurmlab.errors import LabError
from slurmlab.names import CGROUP_PARENT, CGROUP_ROOT, NODES, Lab

TRACKING = ("pids", "unified")
"""Hierarchies that hold every process of a lab."""

SLURM = ("cpuset", "memory", "devices", "freezer", "cpu", "cpuacct")
"""Hierarchies that nodes see below /cg1."""

KILL_SECONDS = 20.0
"""A killed container init takes its whole PID namespace with it, within ms on an idle machine."""


def check_host() -> None:
    """Raise LabError unless the host mounts the hierarchies that a lab needs."""
    absent = [name for name in (*TRACKING, *SLURM) if not (CGROUP_ROOT / name).is_dir()]
    if absent:
        raise LabError(f"cgroup hierarchies absent below {CGROUP_ROOT}: {' '.join(absent)}")


def create(lab: Lab) -> None:
    """Make the cgroups of every node and one for the host side of the lab."""
    for hierarchy in TRACKING:
        for name in ("host", *(node.name for node in NODES)):
            lab.cgroup(hierarchy, name).mkdir(parents=True, exist_ok=True)
    for hierarchy in SLURM:
        for node in NODES:
            path = lab.cgroup(hierarchy, node.name)
            path.mkdir(parents=True, exist_ok=True)
            if hierarchy == "cpuset":
                _fill_cpuset(path)


def _fill_cpuset(path: Path) -> None:
    """A cpuset without cpus and mems takes no task: copy the parent's, from the top down."""
    for level in (path.parents[1], path.parent, path):
        for name in ("cpuset.cpus", "cpuset.mems"):
            (level / name).write_text((level.parent / name).read_text())


def enter(lab: Lab, name: str) -> None:
    """Move the calling process into the lab's tracking cgroups, so that `down` can find it."""
    for hierarchy in TRACKING:
        (lab.cgroup(hierarchy, name) / "cgroup.procs").write_text(str(os.getpid()))


def leave(before: dict[str, str]) -> None:
    """Move the calling process back to the cgroups that `current()` returned."""
    for hierarchy, path in before.items():
        (CGROUP_ROOT / hierarchy / path.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))


def current() -> dict[str, str]:
    """Return the calling process's cgroup in each tracking hierarchy."""
    found: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        name = "unified" if number == "0" else controllers
        if name in TRACKING:
            found[name] = path
    return found


def processes(lab: Lab, *below: str) -> set[int]:
    """Return the pids (as the host counts them) in the lab's tracking cgroups."""
    found: set[int] = set()
    for hierarchy in TRACKING:
        for path in _tree(lab.cgroup(hierarchy, *below)):
            try:
                found.update(int(pid) for pid in (path / "cgroup.procs").read_text().split())
            except OSError:
                continue
    return found


def _tree(top: Path) -> Iterator[Path]:
    """Yield the cgroups below and including `top`, deepest first."""
    for directory, _, _ in os.walk(top, topdown=False):
        yield Path(directory)


def kill_all(lab: Lab) -> None:
    """End every process of the lab; raises LabError if one stays."""
    deadline = time.monotonic() + KILL_SECONDS
    own = os.getpid()
    while left := processes(lab) - {own}:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise LabError(f"processes {sorted(left)} of lab {lab.name} survive SIGKILL")
        time.sleep(0.05)


def remove(lab: Lab) -> None:
    """Remove the lab's cgroups in all hierarchies; raises LabError if one stays in use."""
    deadline = time.monotonic() + KILL_SECONDS
    while True:
        busy = [str(path) for path in _remaining(lab)]
        if not busy:
            return
        if time.monotonic() > deadline:
            raise LabError(f"cgroups of lab {lab.name} are still in use: {' '.join(busy[:5])}")
        time.sleep(0.05)


def _remaining(lab: Lab) -> Iterator[Path]:
    """Try to remove every cgroup once; yield those that are still in use."""
    # All hierarchies: systemd-nspawn makes groups in the one named systemd too.
    for hierarchy in sorted(path.name for path in CGROUP_ROOT.iterdir()):
        for path in _tree(lab.cgroup(hierarchy)):
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                yield path
        try:
            (CGROUP_ROOT / hierarchy / CGROUP_PARENT).rmdir()
        except OSError:
            continue  # absent, or another lab's
