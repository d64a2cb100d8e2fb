"""The one place where the broker starts processes: children that become a user first."""

import ctypes
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from typing import NoReturn

from slurmlet.broker.policy import Account

MAX_OUTPUT = 2 * 1024 * 1024
"""Bytes kept of a child's output; more than the largest read-log slice and its header."""
_KILL_WAIT = 2.0
"""Seconds for a killed child to go; one that hangs in a dead file system is left to init."""
_CHILD_FAILED = 125
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """`code` is None when the child was killed for its timeout, negative for a signal."""

    code: int | None
    stdout: bytes
    stderr: bytes


def call_as(
    account: Account, work: Callable[[], None], *, stdin: bytes = b"", timeout: float
) -> Finished:
    """Run `work` in a forked child that has become `account`; it writes to descriptors 1 and 2.

    `work` may end in `execute`. The child has an own session, umask 077, / as directory and no
    descriptor but 0, 1 and 2. The caller must be single-threaded.
    """
    return _call(account, work, stdin=stdin, timeout=timeout)


def run_as_self(argv: Sequence[str], *, stdin: bytes, timeout: float) -> Finished:
    """Run a program with the broker's own rights and an empty environment, else as `call_as`."""
    return _call(None, lambda: execute(argv, environment={}), stdin=stdin, timeout=timeout)


def _call(
    account: Account | None, work: Callable[[], None], *, stdin: bytes, timeout: float
) -> Finished:
    pipes = [os.pipe() for _ in range(3)]
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _child(account, work, parent=parent, standard=[pipes[0][0], pipes[1][1], pipes[2][1]])
    for descriptor in (pipes[0][0], pipes[1][1], pipes[2][1]):
        os.close(descriptor)
    with (
        FileIO(pipes[0][1], "wb") as write,
        FileIO(pipes[1][0], "rb") as out,
        FileIO(pipes[2][0], "rb") as err,
    ):
        (stdout, stderr), in_time = _exchange(stdin, write=write, read=(out, err), timeout=timeout)
    code = _reap(pid, timeout=_KILL_WAIT) if in_time else None
    if code is None:
        _kill_session(pid)
        _reap(pid, timeout=_KILL_WAIT)
    return Finished(code=code, stdout=stdout, stderr=stderr)


def execute(argv: Sequence[str], *, environment: Mapping[str, str]) -> NoReturn:
    """Replace the calling child by a program."""
    os.execve(argv[0], list(argv), dict(environment))


def become(account: Account) -> None:
    """Give up every right but those of `account`, for good.

    Raises:
        PermissionError: the rights are not those of the account afterwards.
    """
    if os.geteuid() == account.uid and os.getegid() == account.gid:
        # A broker without root serves its own user; it cannot call setgroups.
        return
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    right = (
        os.getresuid() == (account.uid,) * 3
        and os.getresgid() == (account.gid,) * 3
        and set(os.getgroups()) == set(account.groups)
    )
    if not right or account.uid == 0:
        raise PermissionError(f"could not become {account.name}")
    with suppress(PermissionError):
        os.setresuid(0, 0, 0)
        raise SystemError("root came back after it was given up")


def _child(
    account: Account | None, work: Callable[[], None], *, parent: int, standard: Sequence[int]
) -> NoReturn:
    try:
        for caught in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with suppress(OSError, ValueError):
                signal.signal(caught, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        # The pipes' descriptors are above 2: the daemon has its three standard ones.
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number, inheritable=True)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if account is not None:
            become(account)
        # After the change of uid, which clears it. The parent may be gone already.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(_CHILD_FAILED)
        os.umask(0o077)
        os.chdir("/")
        work()
        os._exit(0)
    except BaseException as error:
        with suppress(BaseException):
            reason = error.strerror if isinstance(error, OSError) else None
            where = error.filename if isinstance(error, OSError) else None
            text = f"{where}: {reason}" if where else reason or str(error)
            os.write(2, text.encode(errors="replace"))
    finally:
        os._exit(_CHILD_FAILED)


def _exchange(
    stdin: bytes, *, write: FileIO, read: tuple[FileIO, FileIO], timeout: float
) -> tuple[tuple[bytes, bytes], bool]:
    """Feed and drain the child; whether its output ended in time."""
    deadline = time.monotonic() + timeout
    output = (bytearray(), bytearray())
    with selectors.DefaultSelector() as selector:
        os.set_blocking(write.fileno(), False)
        selector.register(write, selectors.EVENT_WRITE)
        for file, buffer in zip(read, output, strict=True):
            selector.register(file, selectors.EVENT_READ, buffer)
        pending = len(read)
        while pending:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            for key, _ in selector.select(left):
                if key.data is None:
                    stdin = _feed(write, stdin)
                    if not stdin:
                        selector.unregister(write)
                        write.close()
                    continue
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                    pending -= 1
                key.data.extend(data[: MAX_OUTPUT - len(key.data)])
    return (bytes(output[0]), bytes(output[1])), not pending


def _feed(file: FileIO, data: bytes) -> bytes:
    try:
        return data[file.write(data) or 0 :]
    except BrokenPipeError:
        return b""


def _reap(pid: int, *, timeout: float) -> int | None:
    deadline = time.monotonic() + timeout
    descriptor = os.pidfd_open(pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            if not selector.select(max(deadline - time.monotonic(), 0)):
                return None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(descriptor)


def _kill_session(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def fork_request(handle: Callable[[], None]) -> int:
    """Run `handle` in a forked child of this process and return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        handle()
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)
