"""What is mounted below a directory, and unmounting all of it."""

import re
from pathlib import Path

from slurmlab.process import run

_ESCAPE = re.compile(r"\\([0-7]{3})")


def below(top: Path, mountinfo: str | None = None) -> list[Path]:
    """Return the mount points at or below `top`, the last mounted first."""
    text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    points = [_decode(line.split()[4]) for line in text.splitlines() if line.strip()]
    return [point for point in reversed(points) if point == top or top in point.parents]


def _decode(field: str) -> Path:
    """The kernel writes space, tab, newline and backslash in octal."""
    return Path(_ESCAPE.sub(lambda found: chr(int(found[1], 8)), field))


def unmount_below(top: Path) -> None:
    """Unmount everything at or below `top`. Detached: whoever still used it was killed before."""
    for point in below(top):
        run(["umount", "--lazy", point])
