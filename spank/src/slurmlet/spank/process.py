"""The one place where slurmlet-sandbox starts programs: fixed paths, an empty environment."""

import os
import selectors
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

MAX_OUTPUT = 65536
"""Bytes kept of a program's output: a credential, or a user's ranges of ids."""
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class ProcessError(Exception):
    """A program that cannot be run, failed or took too long; the message names it."""


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float = 10.0,
    accepted: Sequence[int] = (0,),
) -> str:
    """Standard output of a program that ends with an accepted code in `timeout` seconds.

    Raises:
        ProcessError: it does not; the message has its last words.
    """
    given = os.memfd_create("stdin", os.MFD_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
        try:
            pid = os.posix_spawn(
                argv[0],
                list(argv),
                _ENVIRONMENT,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, given, 0),
                    (os.POSIX_SPAWN_DUP2, writer, 1),
                    (os.POSIX_SPAWN_DUP2, writer, 2),
                ],
                setsigmask=(),
                setsigdef=(signal.SIGPIPE,),
            )
        except OSError as error:
            raise ProcessError(f"{argv[0]}: {error.strerror}") from None
        finally:
            os.close(writer)
        output, ended = _drain(reader, timeout=timeout)
    finally:
        os.close(given)
        os.close(reader)
    if not ended:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    text = output.decode(errors="replace")
    if not ended:
        raise ProcessError(f"{argv[0]}: no end after {timeout:g} s")
    if code not in accepted:
        words = text.strip().splitlines()
        raise ProcessError(f"{argv[0]}: {words[-1][:300] if words else f'code {code}'}")
    return text


def _drain(reader: int, *, timeout: float) -> tuple[bytes, bool]:
    deadline = time.monotonic() + timeout
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return bytes(output), False
            data = os.read(reader, 65536)
            if not data:
                return bytes(output), True
            output += data[: MAX_OUTPUT - len(output)]
