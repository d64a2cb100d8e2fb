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


class Program:
    """A program that runs from now on; `end` must be called.

    `environment` is added to the one that all programs get. Raises ProcessError if it does not run.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name = argv[0]
        given = os.memfd_create("stdin", os.MFD_CLOEXEC)
        output, errors = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        self._readers = (output[0], errors[0])
        try:
            os.write(given, stdin)
            os.lseek(given, 0, os.SEEK_SET)
            self._pid = os.posix_spawn(
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
            self._close()
            raise ProcessError(f"{argv[0]}: {error.strerror}") from None
        finally:
            for descriptor in (given, output[1], errors[1]):
                os.close(descriptor)

    def end(self, *, timeout: float = 10.0, accepted: Sequence[int] = (0,)) -> str:
        """Its standard output, when it ended with an accepted code in `timeout` seconds.

        Raises:
            ProcessError: it did not; the message has the first line of what it complained.
        """
        try:
            texts, ended = _drain(self._readers, timeout=timeout)
        finally:
            self._close()
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        said, complained = (text.decode(errors="replace") for text in texts)
        if not ended:
            raise ProcessError(f"{self._name}: no end after {timeout:g} s", output=said)
        if code not in accepted:
            words = (complained.strip() or said.strip()).splitlines()
            # A Go program that dies says why in the first line, and then where it was.
            first = words[0][:300] if words else f"code {code}"
            raise ProcessError(f"{self._name}: {first}", output=said)
        return said

    def _close(self) -> None:
        for descriptor in self._readers:
            os.close(descriptor)


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float = 10.0,
    accepted: Sequence[int] = (0,),
    environment: Mapping[str, str] | None = None,
) -> str:
    """Start a program and await its end: see Program. Raises ProcessError."""
    program = Program(argv, stdin=stdin, environment=environment)
    return program.end(timeout=timeout, accepted=accepted)


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
