"""What steps are told of the running containers (docs/contracts.md, Sandbox record).

A hint only: slurmlet-enter, which runs as the user too, believes the kernel.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmlet.supervisor.files import write_whole

LOG = logging.getLogger("slurmlet.supervisor")
_VERSION = 1
_POLL = 0.02
"""Seconds between looks: no event tells that an engine has made a container."""
_POLLS = 1500
"""Half a minute of looks; a container that is not there then is not worth more."""
_ENGINES = frozenset({"crun", "apptainer", "starter", "starter-suid", "choom", "nsenter"})
_DEFAULT = "kubectl.kubernetes.io/default-container"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A running container: its first process as the host numbers it, and when that started, in the
    kernel's clock ticks since boot."""

    pid: int
    start: int
    directory: str
    environment: Mapping[str, str] = field(repr=False)


class Hints:
    """Writes containers.json and a file of each container's environment."""

    def __init__(self, directory: Path, *, pod: Mapping[str, Any]) -> None:
        self._directory = directory
        self._pod = pod
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> None:
        self._entries[name] = entry
        self._write(name)

    def remove(self, name: str) -> None:
        if self._entries.pop(name, None):
            self._write()

    def _write(self, added: str = "") -> None:
        try:
            if added:
                environment = self._entries[added].environment
                content = "".join(f"{key}={value}\0" for key, value in environment.items())
                write_whole(
                    self._directory / environment_file(added),
                    content.encode("utf-8", "surrogateescape"),
                )
            text = json.dumps(hint(self._pod, self._entries))
            write_whole(self._directory / "containers.json", text.encode())
        except OSError as error:
            LOG.error("srun --k8s-pod will not find the containers: %s", error)


def hint(pod: Mapping[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """The content of containers.json."""
    metadata = pod["metadata"]
    containers = {
        name: {
            "pid": entry.pid,
            "start": entry.start,
            "directory": entry.directory,
            "environment": environment_file(name),
        }
        for name, entry in entries.items()
    }
    result = {
        "version": _VERSION,
        "namespace": metadata.get("namespace", ""),
        "pod": metadata["name"],
        "containers": containers,
    }
    default = default_container(pod, running=list(entries))
    return result | ({"default": default} if default else {})


def default_container(pod: Mapping[str, Any], *, running: Sequence[str]) -> str:
    """The one that kubectl would take, if it runs; else the first that does."""
    annotated = (pod["metadata"].get("annotations") or {}).get(_DEFAULT)
    spec = pod["spec"]
    names = [
        item["name"] for key in ("containers", "initContainers") for item in spec.get(key) or ()
    ]
    for name in (annotated, *names):
        if name in running:
            return str(name)
    return ""


def environment_file(container: str) -> str:
    return f"{container}.env"


class Announcement:
    """Tells of one container from when it is ready until it is withdrawn."""

    def __init__(
        self,
        hints: Hints,
        name: str,
        *,
        find: Callable[[], int | None],
        directory: str,
        environment: Mapping[str, str],
    ) -> None:
        self._hints = hints
        self._name = name
        self._find = find
        self._directory = directory
        self._environment = environment
        self._task = asyncio.create_task(self._run())

    def withdraw(self) -> None:
        self._task.cancel()
        self._hints.remove(self._name)

    async def _run(self) -> None:
        for _ in range(_POLLS):
            pid = self._find()
            if pid is not None and is_ready(pid):
                start = start_time(pid)
                if start is not None:
                    entry = Entry(
                        pid=pid,
                        start=start,
                        directory=self._directory,
                        environment=self._environment,
                    )
                    self._hints.add(self._name, entry)
                return
            await asyncio.sleep(_POLL)


def is_ready(pid: int, *, proc: Path = Path("/proc")) -> bool:
    """Whether a container's first process runs the container's program and no longer the engine,
    which changes root directory and mounts until then."""
    try:
        program = (proc / str(pid) / "exe").readlink()
    except PermissionError:
        # It has become another user of the pod, the last that an engine does.
        return True
    except OSError:
        return False
    name = program.name.removesuffix(" (deleted)")
    return name not in _ENGINES and not name.startswith("memfd:")


def start_time(pid: int, *, proc: Path = Path("/proc")) -> int | None:
    """Field 22 of proc(5)'s stat; None if the process is gone."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def age() -> float:
    """Seconds since the calling process was started, in steps of the clock tick."""
    ticks = start_time(os.getpid()) or 0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
