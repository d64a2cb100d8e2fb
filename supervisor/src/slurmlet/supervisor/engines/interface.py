"""What a container engine is asked to do. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from slurmlet.supervisor.anchor import Anchor

OOM_SCORE = 500
FAILURE_FD = 3
"""Where the engine finds, and hands on to the container, a pipe for why its command cannot run."""
MAX_ROOM = 6 * 1024 * 1024
"""Bytes of arguments and environment, however large the stack: three quarters of the kernel's
_STK_LIM."""
DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What Kubernetes' runtimes give by default; here inside the pod's user namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """`source` is a path of the anchor's mount namespace, `target` one of the container."""

    source: str
    target: str
    read_only: bool = False
    directory: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container ready to be started; ids are those inside the pod's user namespace."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    directory: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    mounts: tuple[Mount, ...] = ()
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    privilege_escalation: bool = True
    read_only: bool = False
    stop_signal: int = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a container is made: `rootfs` (mounted, writable) and `bundle` (an empty directory in
    memory) are paths of the anchor's mount namespace; `id` is unique on the node; `sysfs`
    is mounted there for the pod's network, which decides what interfaces it shows. `devices` is
    what the containers of the pod share as /dev, if the engine wants that."""

    id: str
    rootfs: str
    bundle: str
    anchor: Anchor
    sysfs: str = "/sys"
    devices: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The command that runs the container in the foreground, to be run inside the anchor, and the
    file (of the anchor's namespace) in which the engine says why it could not; without one it says
    so in place of the container's output. It must hand FAILURE_FD on."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    error_file: str | None = None


class Engine(Protocol):
    """Turns a specification into a command; the container's process is PID 1 of its namespace.
    `wants_devices` says that a place must have `devices`, `prefix` counts the bytes that it puts
    before each name of the environment, `room` bounds the bytes of arguments and environment."""

    name: str
    wants_devices: bool
    prefix: int
    room: int

    def takes(self, name: str) -> bool:
        """Whether a variable of this name reaches the container."""
        ...

    def launch(self, spec: ContainerSpec, place: Place) -> Launch:
        """Write what the engine needs and return the command.

        Raises:
            OSError: a file cannot be written.
        """
        ...

    def error(self, text: str, *, code: int) -> str:
        """The engine's own complaint, empty if there is none: in the content of `error_file` or in
        the end of the output, after an end with this code."""
        ...
