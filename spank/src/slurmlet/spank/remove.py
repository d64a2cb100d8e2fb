"""In the epilog, and wherever an epilog did not come: sandboxes go."""

import time
from pathlib import Path

from slurmlet.spank import config, record
from slurmlet.spank.layout import JOBS, Sandbox, sandbox_of, sandboxes
from slurmlet.spank.lock import Busy, locked
from slurmlet.spank.make import clear
from slurmlet.spank.network import NetworkError, attach, leases

_OLD = 86400.0
"""Seconds after which a sandbox without a step is nobody's; the longest prologs take minutes."""


def remove(job: int, *, jobs: Path = JOBS) -> None:
    """Remove a job's sandbox; nothing happens if there is none.

    Raises:
        OSError, KernelError: something of it does not go; the tombstone stays for the next try.
    """
    sandbox = sandbox_of(job, jobs=jobs)
    try:
        with locked(sandbox.root):
            _remove(sandbox)
    except FileNotFoundError:
        return
    except Busy:
        raise OSError(f"the sandbox of job {job} is being worked on for too long") from None


def _remove(sandbox: Sandbox) -> None:
    # First, so that whoever comes after a crash knows that nothing here is needed.
    sandbox.tombstone.touch()
    try:
        network = config.load().network
    except config.ConfigError:
        network = None
    clear(sandbox, network=network)
    sandbox.root.rmdir()


def collect(*, jobs: Path = JOBS, seconds: float = leases.PROLOG_SECONDS) -> list[str]:
    """Remove what another boot left, what an epilog began to remove, and what is over a day old and
    has no step; what is locked is in use. Then free the addresses that rested, for so many seconds.
    Returns what could not be done, in words."""
    boot = record.boot_id()
    problems = []
    for sandbox in sandboxes(jobs):
        try:
            with locked(sandbox.root, wait=False):
                if is_garbage(sandbox, boot=boot):
                    _remove(sandbox)
        except (Busy, FileNotFoundError):
            continue
        except Exception as error:
            problems.append(f"{sandbox.root.name}: {error}")
    return problems + leases.free(seconds=seconds)


def refresh(*, jobs: Path = JOBS) -> list[str]:
    """Set the rules of pods' interfaces, where there are such; what does not work, in words."""
    try:
        network = config.load().network
        if network.conf_dir:
            attach.refresh(jobs, network=network)
    except (config.ConfigError, NetworkError) as error:
        return [str(error)]
    return []


def is_garbage(sandbox: Sandbox, *, boot: str) -> bool:
    """Whether a sandbox, whose lock the caller holds, is nobody's."""
    if sandbox.tombstone.exists():
        return True
    # Whoever makes a sandbox holds its lock until the record is there: this maker was killed.
    if not sandbox.record.exists():
        return True
    known = record.read(sandbox.record)
    if known is not None and known.get("boot") != boot:
        return True
    if time.time() - sandbox.root.stat().st_mtime < _OLD:
        return False
    return not _has_step(sandbox.root.name)


def _has_step(job: str) -> bool:
    try:
        spool = Path(config.load().spool_dir)
    except config.ConfigError:
        return True
    # slurmstepd listens on NODE_JOB.STEP there.
    return any(spool.glob(f"*_{job}.*"))
