"""One agent serves a node: another that is started on the same state directory ends at once."""

import fcntl
import os
from pathlib import Path

from slurmlet.common.config import ConfigError

LOCK_FILE = "agent.lock"


def hold(state_dir: Path) -> int:
    """Take the lock for the life of this process; the kernel frees it however that ends.

    Returns:
        The descriptor, to be kept open.

    Raises:
        ConfigError: another agent has it.
        OSError: the directory cannot be written.
    """
    path = state_dir / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise ConfigError(
            f"another agent (process {holder}) holds {path}; one agent serves a node:"
            " stop that one first, or give this one a node_name and a state_dir of its own"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
