"""Taking a lab down, whatever state it is in: everything is found by the lab's name."""

import os
import signal
import time
from pathlib import Path

from slurmlab import cgroups, mounts
from slurmlab.errors import LabError
from slurmlab.names import NODES, RUN_ROOT, Lab
from slurmlab.node import init_pid
from slurmlab.process import run

NSPAWN_RUNTIME = Path("/run/systemd/nspawn")
SUPERVISOR_SECONDS = 5.0
"""systemd-nspawn needs some ms to notice that its init is gone and to remove its own locks."""

REMOVE_SECONDS = 300.0
"""A used lab has 50,000 files; removing them takes 3 s, on a busy disk 30."""


def remove(lab: Lab) -> None:
    """End every process of the lab and remove its mounts, namespaces, cgroups and files.

    Does nothing for a lab that does not exist. Raises LabError when something cannot be removed.
    """
    locks = _nspawn_locks(lab)
    _kill_inits(lab)
    cgroups.kill_all(lab)
    mounts.unmount_below(lab.run_dir)
    if left := mounts.below(lab.run_dir):
        raise LabError(f"still mounted: {' '.join(str(path) for path in left)}")
    cgroups.remove(lab)
    if lab.run_dir.exists():
        run(["rm", "-rf", "--one-file-system", lab.run_dir], timeout=REMOVE_SECONDS)
    for node in NODES:
        _rmdir(NSPAWN_RUNTIME / "propagate" / f"{lab.name}-{node.name}")
    for path in locks:
        path.unlink(missing_ok=True)
    _rmdir(RUN_ROOT)


def _kill_inits(lab: Lab) -> None:
    """Kill the nodes' inits, which ends all of each node, and let systemd-nspawn tidy up."""
    for node in NODES:
        pid = init_pid(lab, node)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + SUPERVISOR_SECONDS
    while time.monotonic() < deadline:
        if not any(cgroups.processes(lab, node.name) for node in NODES):
            return
        time.sleep(0.05)


def _nspawn_locks(lab: Lab) -> list[Path]:
    """Lock files that systemd-nspawn leaves when it is killed, named after the root directory."""
    found = []
    for node in NODES:
        try:
            seen = lab.root(node).stat()
        except OSError:
            continue
        name = f"inode-{seen.st_dev:x}:{seen.st_ino:x}"
        found.append(NSPAWN_RUNTIME / "locks" / name)
    return found


def _rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return  # absent, or in use by another lab
