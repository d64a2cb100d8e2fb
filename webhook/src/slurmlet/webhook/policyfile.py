"""The policy snapshot as the agent last published it (docs/contracts.md, Policy snapshot)."""

import logging
import os
import time
from pathlib import Path

from slurmlet.contracts.policy import (
    MAX_BYTES,
    NOTHING_KNOWN,
    STALE_SECONDS,
    PolicyError,
    Snapshot,
    as_of,
    decode,
)

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Between looks at the file's stamp, which cost nothing; who was just given a partition need not
wait."""


class PolicyFile:
    """The last good snapshot in a file. Requests ask for it, another thread looks at the file."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._stamp: tuple[int, int, int] | None = None
        self._snapshot = NOTHING_KNOWN
        self._trouble = ""
        self._said = ""

    def current(self) -> Snapshot:
        """What counts now; no I/O."""
        return as_of(self._snapshot, time.time())

    def age(self) -> float:
        """Since the snapshot was written, in seconds; infinite if there never was one."""
        snapshot = self._snapshot
        return float("inf") if snapshot is NOTHING_KNOWN else time.time() - snapshot.written

    def look(self) -> None:
        """Read the file if it changed. One that is missing or cannot be read changes nothing."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._snapshot = _bounded(file.read(MAX_BYTES + 1))
                    self._trouble = ""
        except OSError as error:
            self._stamp, self._trouble = None, error.strerror or str(error)
        except PolicyError as error:
            self._trouble = str(error)
        self._say(self._problem())

    def _problem(self) -> str:
        if self._trouble:
            kept = "nothing is known" if self._snapshot is NOTHING_KNOWN else "the last one counts"
            return f"{self._trouble}; {kept}"
        if self.age() > STALE_SECONDS:
            return "not written for ten minutes; until it is, no pod is refused for its size"
        return ""

    def _say(self, problem: str) -> None:
        if problem and problem != self._said:
            log.warning("policy snapshot %s: %s", self._path, problem)
        if self._said and not problem:
            log.info("policy snapshot %s: in use again", self._path)
        self._said = problem


def _bounded(content: bytes) -> Snapshot:
    if len(content) > MAX_BYTES:
        raise PolicyError(f"no policy snapshot: more than {MAX_BYTES} bytes")
    return decode(content)
