"""What the host must offer, and one lock per lab."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slurmlab import cgroups
from slurmlab.errors import LabError
from slurmlab.names import Lab

TOOLS = {
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "tar": "tar",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
"""Command on the host → Debian package that has it (tests/lab/host-packages.txt)."""

INOTIFY_INSTANCES = 30
"""Measured: 20 for the three nodes of a lab, and a few for what is rolled out on them."""


def check() -> None:
    """Raise LabError unless a lab can run here."""
    if os.geteuid() != 0:
        raise LabError("a lab boots nodes: run ./lab as root")
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise LabError(f"missing on this host: apt-get install {' '.join(missing)}")
    cgroups.check_host()


def check_room() -> None:
    """Raise LabError unless three more systemds can start.

    inotify instances are counted per user of the host, and root of every node is the host's root:
    where they run out, systemd ends without a word.
    """
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    used = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == 0:
                used += sum(_is_inotify(path) for path in (process / "fd").iterdir())
        except OSError:
            continue  # ended meanwhile
    if limit - used < INOTIFY_INSTANCES:
        raise LabError(
            f"inotify instances: {used} of {limit} are in use and a lab needs {INOTIFY_INSTANCES}:"
            " take another lab down, or sysctl fs.inotify.max_user_instances=1024"
        )


def _is_inotify(path: Path) -> bool:
    return str(path.readlink()) == "anon_inode:inotify"


@contextmanager
def locked(lab: Lab) -> Iterator[None]:
    """Hold the lab's lock; raises LabError at once when another command changes the lab."""
    path = Path("/run/lock") / f"slurmlet-lab-{lab.name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            raise LabError(
                f"lab {lab.name} is being changed by pid {holder}: wait for it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
