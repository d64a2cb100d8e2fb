"""The anchor of a pod: one process that owns its user, mount and PID namespace.

Everything of the pod runs below it: when it dies, the kernel kills the rest. It dies with the
supervisor, because it reads a pipe that the supervisor holds open.
"""

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from slurmlet.contracts.names import ENTER
from slurmlet.supervisor.process import Finished, Process, ProcessError, drain, run, spawn
from slurmlet.supervisor.sandbox import Sandbox

_START_TIMEOUT = 20.0
"""Seconds for new namespaces: newuidmap may ask a slow name service for the subordinate ids."""
_HELPER_TIMEOUT = 60.0
"""Seconds for a mount or a chown; the file systems are local to the node."""
_NAMESPACES = (
    "--user",
    "--map-root-user",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child=SIGKILL",
)
# As PID 1 it would have to reap what is orphaned; with SIGCHLD ignored the kernel does. cat echoes
# the byte that says that the namespaces are there.
_HOLD = ("sh", "-c", "trap '' CHLD; exec cat")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_SCORE = "500"
"""oom_score_adj of what runs in the pod: it goes before the supervisor."""


class Anchor:
    """Handles of a started anchor; made by `start_anchor`."""

    def __init__(
        self,
        *,
        process: Process,
        pid: int,
        hold: int,
        ids: int,
        environment: Mapping[str, str],
        kinds: Sequence[str] = (),
    ) -> None:
        self.pid = pid
        self.ids = ids
        self.environment = environment
        self._kinds = kinds
        self._process = process
        self._hold = hold

    @property
    def variant(self) -> str:
        """Names the id mapping: files unpacked under another one have the wrong owners."""
        lines = Path(f"/proc/{self.pid}/uid_map").read_text().splitlines()
        return "-".join("_".join(line.split()[1:]) for line in lines)

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` in the anchor's namespaces, as its root."""
        return [
            "nsenter",
            f"--target={self.pid}",
            "--user",
            "--mount",
            "--pid",
            *(f"--{kind}" for kind in self._kinds),
            "--preserve-credentials",
            "--",
            "choom",
            "-n",
            _SCORE,
            "--",
            *argv,
        ]

    def path(self, inner: str) -> Path:
        """A path of the anchor's mount namespace as this process can open it."""
        return Path(f"/proc/{self.pid}/root{inner}")

    async def run(self, argv: Sequence[str], *, timeout: float = _HELPER_TIMEOUT) -> Finished:
        """Run a helper inside.

        Raises:
            ProcessError: it fails; the message has its last words.
        """
        done = await run(self.enter(argv), environment=self.environment, timeout=timeout)
        if done.code != 0:
            words = done.stderr.decode(errors="replace").strip()[-500:]
            raise ProcessError(f"{argv[0]}: {words or f'code {done.code}'}")
        return done

    async def mount(self, kind: str, target: str, *, options: str) -> None:
        """Mount a file system inside; it is gone with the anchor."""
        await self.run(["mount", "-t", kind, "-o", options, kind, target])

    async def unmount_below(self, path: str) -> None:
        """Unmount what is mounted inside below a path; what is in use goes with its user.

        Raises:
            ProcessError: it fails.
            OSError: the anchor is gone.
        """
        mounts = Path(f"/proc/{self.pid}/mountinfo").read_text()  # noqa: ASYNC240 - in memory
        if targets := mounts_below(path, mounts=mounts):
            await self.run(["umount", "--lazy", "--", *targets])

    async def stop(self) -> None:
        """End the anchor and with it everything that runs below it."""
        with suppress(OSError):
            os.close(self._hold)
        self._process.kill_group(9)
        await self._process.wait()


def mounts_below(path: str, *, mounts: str) -> list[str]:
    """The mount points below a path in a mountinfo of proc(5), the deepest first."""
    points = [_ESCAPED.sub(_unescape, line.split()[4]) for line in mounts.splitlines()]
    found = {point for point in points if point.startswith(f"{path}/")}
    return sorted(found, key=lambda point: point.count("/"), reverse=True)


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))


async def start_anchor(
    environment: Mapping[str, str], *, sandbox: Sandbox | None = None, hostname: str = ""
) -> Anchor:
    """Start an anchor in the job's sandbox, under a host name of its own if one is given; without a
    sandbox with all of the user's subordinate ids, or with the user's id alone.

    Raises:
        ProcessError: the kernel or the site allows no user namespaces; the message says what fails.
    """
    if sandbox:
        named = (f"--hostname={hostname}",) if hostname else ()
        argv = (ENTER, f"--job={sandbox.job_id}", "--anchor", *named)
        return await _start(argv, environment=environment, kinds=sandbox.kinds)
    unshare = ("unshare", *_NAMESPACES)
    try:
        return await _start((*unshare, "--map-auto", "--", *_HOLD), environment=environment)
    except ProcessError:
        return await _start((*unshare, "--", *_HOLD), environment=environment)


async def _start(
    argv: Sequence[str], *, environment: Mapping[str, str], kinds: Sequence[str] = ()
) -> Anchor:
    hold_read, hold = os.pipe()
    echo, echo_write = os.pipe()
    errors, errors_write = os.pipe()
    process = None
    try:
        try:
            process = spawn(
                argv,
                environment=environment,
                stdin=hold_read,
                stdout=echo_write,
                stderr=errors_write,
            )
        finally:
            for descriptor in (hold_read, echo_write, errors_write):
                os.close(descriptor)
        os.write(hold, b"\n")
        async with asyncio.timeout(_START_TIMEOUT):
            if not await _first_byte(echo):
                words = (await drain(os.dup(errors))).decode(errors="replace").strip()
                raise ProcessError(f"cannot make the pod's namespaces: {words}")
        pid = _child_init(process.pid)
        ids = _mapped_ids(pid)
    except BaseException as error:
        os.close(hold)
        if process:
            process.kill_group(9)
        if isinstance(error, TimeoutError):
            raise ProcessError(f"cannot make the pod's namespaces: {argv[0]} hangs") from None
        if isinstance(error, OSError):
            raise ProcessError(f"cannot make the pod's namespaces: {error.strerror}") from None
        raise
    finally:
        os.close(echo)
        os.close(errors)
    return Anchor(
        process=process, pid=pid, hold=hold, ids=ids, environment=environment, kinds=kinds
    )


async def _first_byte(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
        return os.read(descriptor, 1)
    finally:
        loop.remove_reader(descriptor)


def _mapped_ids(pid: int) -> int:
    lines = Path(f"/proc/{pid}/uid_map").read_text().splitlines()
    return sum(int(line.split()[2]) for line in lines)


def _child_init(pid: int) -> int:
    for child in children(pid):
        if pid_in_namespaces(child)[-1:] == [1]:
            return child
    raise ProcessError("cannot make the pod's namespaces: the anchor has no child")


def children(pid: int) -> list[int]:
    """Direct children of a process; empty when it is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def runs(pid: int, program: str) -> bool:
    """Whether a process was started as this program."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(program.encode() + b"\0")
    except OSError:
        return False


def pid_in_namespaces(pid: int) -> list[int]:
    """The ids that a process has, from this PID namespace to its own; empty when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    line = next((line for line in status.splitlines() if line.startswith("NSpid:")), "NSpid:")
    return [int(word) for word in line.split()[1:]]


def container_init(engine: int, *, anchor: int) -> int | None:
    """The process that is PID 1 of the container which this engine process started, if any."""
    depth = len(pid_in_namespaces(anchor)) + 1
    waiting = children(engine)
    # Bounded by the processes of one container at its start.
    while waiting:
        pid = waiting.pop(0)
        ids = pid_in_namespaces(pid)
        if len(ids) == depth and ids[-1] == 1:
            return pid
        if len(ids) < depth:
            waiting.extend(children(pid))
    return None
