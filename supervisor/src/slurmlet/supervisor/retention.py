"""What may be forgotten of a user's finished pods."""

import os
from pathlib import Path

from slurmlet.contracts.names import EXIT_RECORD

SECONDS_PER_DAY = 86400.0


def forgettable(state: Path, *, before: float) -> list[Path]:
    """Directories of pods that ended, and first outputs of jobs that were last written, before
    this moment (seconds since the epoch). A pod without an exit record may still run."""
    result = [path for path in _entries(state / "pods") if _older(path / EXIT_RECORD, before)]
    return result + [path for path in _entries(state / "boot") if _older(path, before)]


def _entries(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for entry in entries]
    except OSError:
        return []


def _older(path: Path, before: float) -> bool:
    try:
        return path.lstat().st_mtime < before
    except OSError:
        return False
