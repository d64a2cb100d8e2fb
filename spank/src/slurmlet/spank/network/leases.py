"""Addresses that rest: nobody gets a pod's address before its peers forgot the pod.

Until CNI DEL is called the address stays leased. Each waiting DEL is a file of root's.
"""

import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from slurmlet.spank import record
from slurmlet.spank.lock import Busy, locked
from slurmlet.spank.network import NetworkError, attachment, cni
from slurmlet.spank.network.attachment import Attachment

RESTING = Path("/run/slurmlet/resting")
REST = 60.0
"""Seconds; above what DNS answers and connections of peers outlive a pod by."""
_TRIES = 5
"""Of a DEL that fails, the last one some 13 hours after the first: then its plugin is gone for good
or the node is rebooted, and what waits for it must not fill /run."""
PROLOG_SECONDS = 0.2
EPILOG_SECONDS = 4.0
"""How long each goes on with this: a user waits for a prolog. A DEL takes some 20 ms, and a second
on a node whose processors are all busy."""
_THOROUGH_SECONDS = 8.0


def rest(gone: Attachment, *, resting: Path | None = None) -> None:
    """Note that the address of a removed sandbox may be freed later. Raises OSError."""
    resting = resting or RESTING
    resting.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = resting / f"{gone.container}.json"
    if not path.exists():
        _write(path, replace(gone, not_before=_now() + REST))


def free(
    *, resting: Path | None = None, seconds: float = PROLOG_SECONDS, thorough: bool = False
) -> list[str]:
    """Free addresses that rested, as many as can be begun with in so many seconds. What another
    frees at the moment is left to it, but `thorough`, for a sandbox that finds no address, waits
    for the other and takes more time. Returns what does not work, in words."""
    resting = resting or RESTING
    problems: list[str] = []
    with suppress(FileNotFoundError, Busy), locked(resting, wait=thorough):
        boot, end = record.boot_id(), _now() + (_THOROUGH_SECONDS if thorough else seconds)
        for path in sorted(resting.glob("*.json")):
            gone = attachment.read(path)
            if gone is None:
                problems.append(f"{path} is not understood: its address may stay leased")
                path.unlink(missing_ok=True)
                continue
            if gone.boot == boot and _now() < gone.not_before:
                continue
            if _now() > end:
                break
            try:
                cni.delete(
                    gone.conf, container=gone.container, netns="", bin_dirs=gone.bin_dirs,
                    previous=gone.result,
                )  # fmt: skip
                path.unlink(missing_ok=True)
            except NetworkError as error:
                problems.append(f"address of {gone.container}: {error}")
                _try_again(path, gone)
    return problems


def _try_again(path: Path, gone: Attachment) -> None:
    tries = gone.tries + 1
    if tries == _TRIES:
        path.unlink(missing_ok=True)
        return
    _write(path, replace(gone, tries=tries, not_before=_now() + REST * 5**tries))


def _write(path: Path, gone: Attachment) -> None:
    record.write(path, attachment.encode(gone), mode=0o600)
    # The plugin looks at this only, to know whether an epilog must start us.
    due = time.time() + gone.not_before - _now()
    os.utime(path, (due, due))


def _now() -> float:
    # Of this boot; the clock on the wall may be set.
    return time.clock_gettime(time.CLOCK_BOOTTIME)
