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


def check() -> None:
    """Raise LabError unless a lab can run here."""
    if os.geteuid() != 0:
        raise LabError("a lab boots nodes: run ./lab as root")
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise LabError(f"missing on this host: apt-get install {' '.join(missing)}")
    cgroups.check_host()


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
