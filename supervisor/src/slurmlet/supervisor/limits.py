"""What a program can be given as arguments and environment (execve(2)). No I/O."""

import resource
from collections.abc import Iterator
from dataclasses import replace

from slurmlet.supervisor.engines.interface import MAX_ROOM, ContainerSpec, Engine

MAX_TEXT = 32 * resource.getpagesize() - 1
"""Bytes of one argument, or of NAME=VALUE, without the NUL at its end: the kernel's
MAX_ARG_STRLEN."""
_MIN_ROOM = 128 * 1024
"""The kernel's ARG_MAX, which holds however small the stack is."""
_POINTER = 8
_RESERVE = 4096
"""Bytes for what the engine and our init add."""
_FILE = "mount a ConfigMap or Secret as a volume and read it from there"


class LimitError(ValueError):
    """Arguments or an environment that no program can be given; the message is for the pod's
    author and holds no value."""


def room() -> int:
    """Bytes that this process's children can be given as arguments and environment."""
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    quarter = MAX_ROOM if soft == resource.RLIM_INFINITY else soft // 4
    return max(min(quarter, MAX_ROOM), _MIN_ROOM)


def possible(
    spec: ContainerSpec, engine: Engine, *, room: int
) -> tuple[ContainerSpec, tuple[str, ...]]:
    """A container as the engine can start it, and the names of variables that are left out for it;
    arguments and environment together may take `room` bytes.

    Raises:
        LimitError: it cannot.
    """
    kept = {name: value for name, value in spec.environment.items() if engine.takes(name)}
    left_out = tuple(name for name in spec.environment if name not in kept)
    spec = replace(spec, environment=kept)
    check(spec, prefix=engine.prefix, room=min(engine.room, room))
    return spec, left_out


def check(spec: ContainerSpec, *, prefix: int, room: int) -> None:
    """Whether a container's program can be started; the engine puts `prefix` bytes before each name
    of the environment, and all together may take `room` bytes.

    Raises:
        LimitError: it cannot.
    """
    total = _RESERVE
    for what, text, more in _texts(spec, prefix=prefix):
        if "\0" in text:
            raise LimitError(f"{what} has a NUL character, at which every program stops; {_FILE}")
        try:
            size = len(text.encode()) + more
        except UnicodeEncodeError:
            raise LimitError(f"{what} is not UTF-8 text; {_FILE}") from None
        if size > MAX_TEXT:
            raise LimitError(f"{what} takes {size} bytes, the kernel allows {MAX_TEXT}; {_FILE}")
        total += size + 1 + _POINTER
    if total > room:
        raise LimitError(
            f"command, args and environment take {total} bytes together, at most {room} fit here;"
            f" {_FILE}"
        )


def _texts(spec: ContainerSpec, *, prefix: int) -> Iterator[tuple[str, str, int]]:
    """What it is, its text, and bytes that are added to it."""
    yield "workingDir", spec.directory, 0
    for mount in spec.mounts:
        yield f"the path of a mount, {mount.target[:100]!r},", mount.target, 0
    for number, text in enumerate(spec.arguments):
        yield f"word {number} of command and args", text, 0
    for name, value in spec.environment.items():
        yield f'environment variable "{name[:100]}"', f"{name}={value}", prefix
