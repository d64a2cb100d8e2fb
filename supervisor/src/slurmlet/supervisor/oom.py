"""How often the kernel has killed a process of this job for memory."""

import re
from pathlib import Path, PurePosixPath

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class OomCounter:
    """Reads the counter of this process's memory cgroup, which its containers share."""

    def __init__(self, *, proc: Path = Path("/proc/self")) -> None:
        try:
            self._file = counter_file(
                (proc / "cgroup").read_text(), mounts=(proc / "mountinfo").read_text()
            )
        except OSError:
            self._file = None

    def read(self) -> int:
        """The count, 0 where the site has no memory cgroups."""
        if self._file is None:
            return 0
        try:
            match = _COUNT.search(self._file.read_text())
        except OSError:
            return 0
        return int(match[1]) if match else 0


def counter_file(cgroups: str, *, mounts: str) -> Path | None:
    """The file with the counter, from /proc/PID/cgroup and /proc/PID/mountinfo.

    cgroup v1 counts at the cgroup of the victim in memory.oom_control, v2 in memory.events.
    """
    own = {}
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        own["v2" if not controllers else "v1" if "memory" in controllers.split(",") else ""] = path
    for line in mounts.splitlines():
        fields, _, filesystem = line.partition(" - ")
        root, mount_point = fields.split()[3:5]
        kind, _, options = filesystem.split(" ", 2)
        version = {"cgroup": "v1", "cgroup2": "v2"}.get(kind)
        if version is None or version not in own or (version == "v2" and "v1" in own):
            continue
        if version == "v1" and "memory" not in options.split(","):
            continue
        inner = _below(own[version], root)
        if inner is not None:
            name = "memory.oom_control" if version == "v1" else "memory.events"
            return Path(mount_point, inner, name)
    return None


def _below(path: str, root: str) -> PurePosixPath | None:
    try:
        return PurePosixPath(path).relative_to(root)
    except ValueError:
        return None
