"""The one place where slurmlet-sandbox starts programs: fixed paths, an environment of our own."""

import os
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

MAX_OUTPUT = 65536
"""Bytes kept of what a program writes: a credential, a user's ranges of ids, a CNI result."""
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class ProcessError(Exception):
    """A program that cannot be run, failed or took too long; the message names it.

    `output` is what it wrote to its standard output until then.
    """

    def __init__(self, message: str, *, output: str = "") -> None:
        super().__init__(message)
        self.output = output


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float = 10.0,
    accepted: Sequence[int] = (0,),
    environment: Mapping[str, str] | None = None,
) -> str:
    """Standard output of a program that ends with an accepted code in `timeout` seconds.

    `environment` is added to the one that all programs get.

    Raises:
        ProcessError: it does not; the message has its last words.
    """
    given = os.memfd_create("stdin", os.MFD_CLOEXEC)
    output, errors = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    try:
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
        try:
            pid = os.posix_spawn(
                argv[0],
                list(argv),
                _ENVIRONMENT | dict(environment or {}),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, given, 0),
                    (os.POSIX_SPAWN_DUP2, output[1], 1),
                    (os.POSIX_SPAWN_DUP2, errors[1], 2),
                ],
                # A group of its own, so that what it started dies with it.
                setpgroup=0,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE,),
            )
        except OSError as error:
            raise ProcessError(f"{argv[0]}: {error.strerror}") from None
        finally:
            os.close(output[1])
            os.close(errors[1])
        texts, ended = _drain((output[0], errors[0]), timeout=timeout)
    finally:
        for descriptor in (given, output[0], errors[0]):
            os.close(descriptor)
    if not ended:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said, complained = (text.decode(errors="replace") for text in texts)
    if not ended:
        raise ProcessError(f"{argv[0]}: no end after {timeout:g} s", output=said)
    if code not in accepted:
        words = (complained.strip() or said.strip()).splitlines()
        last = words[-1][:300] if words else f"code {code}"
        raise ProcessError(f"{argv[0]}: {last}", output=said)
    return said


def _drain(readers: Sequence[int], *, timeout: float) -> tuple[list[bytearray], bool]:
    deadline = time.monotonic() + timeout
    kept = [bytearray() for _ in readers]
    with selectors.DefaultSelector() as selector:
        for reader, text in zip(readers, kept, strict=True):
            selector.register(reader, selectors.EVENT_READ, text)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                return kept, False
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fd)
                key.data.extend(data[: MAX_OUTPUT - len(key.data)])
    return kept, True
