"""The one place where the supervisor starts processes; they are reaped through pidfds."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass

MAX_OUTPUT = 4 * 1024 * 1024
"""Bytes kept of a helper's output: the largest manifest and configuration of an image."""


class ProcessError(Exception):
    """A helper that could not be started, timed out or ended with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """`code` is negative for a signal, as waitstatus_to_exitcode has it."""

    code: int
    stdout: bytes
    stderr: bytes


class Process:
    """A running child; `wait` may be called more than once."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        loop.add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self.pid, 0)
        if not self._ended.done():
            self._ended.set_result(os.waitstatus_to_exitcode(status))

    @property
    def running(self) -> bool:
        return not self._ended.done()

    async def wait(self) -> int:
        """The exit code, negative for a signal."""
        return await asyncio.shield(self._ended)

    def kill_group(self, number: int) -> None:
        """Signal the child's session, which began with it."""
        if self.running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


def spawn(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    more: Sequence[int] = (),
) -> Process:
    """Start a program, found on this process's PATH, in a session of its own; the descriptors in
    `more` are its 3, 4 and so on.

    Raises:
        ProcessError: it cannot be started.
    """
    try:
        pid = os.posix_spawnp(
            argv[0],
            list(argv),
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, descriptor, number)
                for number, descriptor in enumerate((stdin, stdout, stderr, *more))
            ],
            setsid=True,
            setsigmask=(),
            # Python ignores these, and what is ignored is inherited.
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )
    except OSError as error:
        raise ProcessError(f"{argv[0]}: {error.strerror}") from None
    return Process(pid)


async def run(argv: Sequence[str], *, environment: Mapping[str, str], timeout: float) -> Finished:
    """Run a helper to its end without input; its output is kept up to MAX_OUTPUT.

    Raises:
        ProcessError: it cannot be started or does not end in `timeout` seconds.
    """
    readers = []
    with open_null() as null, contextlib.ExitStack() as stack:
        writers = []
        for _ in range(2):
            reader, writer = os.pipe()
            readers.append(reader)
            writers.append(writer)
            stack.callback(os.close, writer)
        try:
            process = spawn(
                argv, environment=environment, stdin=null, stdout=writers[0], stderr=writers[1]
            )
        except ProcessError:
            for reader in readers:
                os.close(reader)
            raise
    outputs = [asyncio.ensure_future(drain(reader)) for reader in readers]
    try:
        async with asyncio.timeout(timeout):
            code = await process.wait()
            stdout, stderr = await asyncio.gather(*outputs)
    except TimeoutError:
        raise ProcessError(f"{argv[0]}: no end after {timeout:g} s") from None
    finally:
        process.kill_group(signal.SIGKILL)
        for output in outputs:
            output.cancel()
    return Finished(code=code, stdout=stdout, stderr=stderr)


@contextlib.contextmanager
def open_null() -> Iterator[int]:
    """A descriptor of /dev/null."""
    descriptor = os.open("/dev/null", os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def drain(descriptor: int) -> bytes:
    """All that a pipe yields, up to MAX_OUTPUT; the rest is read and dropped."""
    result = bytearray()
    async for piece in pieces(descriptor):
        result += piece[: MAX_OUTPUT - len(result)]
    return bytes(result)


async def pieces(descriptor: int) -> AsyncIterator[bytes]:
    """What a pipe yields, piece by piece, until its end; closes it."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        while True:
            try:
                piece = os.read(descriptor, 65536)
            except BlockingIOError:
                readable.clear()
                await readable.wait()
                continue
            if not piece:
                return
            yield piece
            # A container that writes without pause must not keep the others from their turn.
            await asyncio.sleep(0)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
