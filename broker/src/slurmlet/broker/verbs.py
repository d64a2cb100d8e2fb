"""The three verbs. Each runs in a child that has become the user of the namespace."""

import errno
import os
import pwd
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slurmlet.broker.config import Settings, load_identity_map
from slurmlet.broker.credential import CredentialError, credential
from slurmlet.broker.homes import prepare
from slurmlet.broker.policy import Account, account_of, authorised_options, may_run
from slurmlet.broker.process import call_as, execute, run_as_self
from slurmlet.broker.slurm import MAX_MESSAGE, cancelled, denied, submitted
from slurmlet.contracts.brokerproto import Answer, Cancel, ReadLog, RefusedError, Request, Submit
from slurmlet.contracts.identity import Identity, IdentityMap
from slurmlet.contracts.names import (
    ENV_AGENT,
    ENV_CREDENTIAL,
    ENV_POD_UID,
    ENV_TOKEN,
    JOB_SCRIPT,
    LOG_PARTS,
    log_part,
)
from slurmlet.contracts.request import JobRequest, sbatch_argv
from slurmlet.contracts.site import user_dir

_HEADER = 8
"""Bytes before a read-log child's content: the file's size, big-endian."""


def answer(
    request: Request,
    *,
    settings: Settings,
    find: Callable[[str], Account | None],
    load: Callable[[str], IdentityMap] = load_identity_map,
) -> tuple[Answer, bytes]:
    """Carry out a request; the bytes follow the answer on the wire.

    Raises:
        RefusedError: the identity map does not allow it.
        ConfigError: the identity map cannot be used.
    """
    identities = load(settings.identity_file)
    if isinstance(request, Cancel):
        return cancel(request, identities=identities, settings=settings, find=find), b""
    identity, account = account_of(request.namespace, identities=identities, find=find)
    if isinstance(request, Submit):
        return submit(request, identity=identity, account=account, settings=settings), b""
    return read_log(request, account=account, settings=settings)


def find_account(name: str) -> Account | None:
    """The account that the name service has under this name."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(
        name=entry.pw_name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=tuple(sorted(set(os.getgrouplist(entry.pw_name, entry.pw_gid)))),
        home=entry.pw_dir,
        shell=entry.pw_shell,
        known_as=_name_of(entry.pw_uid) or entry.pw_name,
    )


def _name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def submit(request: Submit, *, identity: Identity, account: Account, settings: Settings) -> Answer:
    """sbatch, with an environment made from scratch and nothing of the pod in the script."""
    job = JobRequest(
        namespace=request.namespace,
        pod=request.pod,
        uid=request.uid,
        attempt=request.attempt,
        options=authorised_options(request.options, identity=identity, namespace=request.namespace),
        grace_seconds=request.grace_seconds,
    )
    boot = Path(state_dir(account, settings)) / "boot"
    # In file names % begins a field of sbatch.
    output = str(boot).replace("%", "%%") + "/%j.boot"
    argv = [
        settings.broker.sbatch,
        *sbatch_argv(job, cluster=settings.cluster.name, boot_output=output),
    ]
    problem = _unusable(boot, account=account, timeout=settings.broker.read_timeout)
    if problem:
        return Answer(error=problem, retry=True)
    try:
        signed = credential(
            settings.broker.munge, uid=account.uid, pod_uid=request.uid, mode=request.sandbox
        )
    except CredentialError as error:
        return Answer(error=str(error), retry=True)
    environment = _environment(account, settings) | {
        ENV_AGENT: request.agent,
        ENV_POD_UID: request.uid,
        ENV_TOKEN: request.token,
    }
    if signed:
        environment[ENV_CREDENTIAL] = signed

    ended = call_as(
        account,
        lambda: execute(argv, environment=environment),
        stdin=JOB_SCRIPT.encode(),
        timeout=settings.broker.submit_timeout,
    )
    return submitted(
        code=ended.code,
        stdout=ended.stdout.decode(errors="replace"),
        stderr=ended.stderr.decode(errors="replace"),
        secret=request.token,
    )


def _unusable(directory: Path, *, account: Account, timeout: float) -> str | None:
    """Why the user cannot keep state in a directory, or None. It can be mended without the pod
    being changed, so every such problem passes."""
    # The umask of the child makes every directory 0700.
    ended = call_as(account, lambda: prepare(directory, home=Path(account.home)), timeout=timeout)
    if ended.code is None:
        return f"the file system of {directory} did not answer in {timeout:.0f} s"
    return ended.stderr.decode(errors="replace")[:MAX_MESSAGE] if ended.code else None


def cancel(
    request: Cancel,
    *,
    identities: IdentityMap,
    settings: Settings,
    find: Callable[[str], Account | None],
) -> Answer:
    """scancel as the user of the namespace, so that Slurm itself refuses jobs of others; a pod's
    job from before the map was changed is cancelled as the user that it still has.

    Raises:
        RefusedError: the namespace has no user, and the job is not known as one of its pods'.
    """
    try:
        _, account = account_of(request.namespace, identities=identities, find=find)
    except RefusedError:
        former = _owner(request, identities=identities, settings=settings, find=find)
        if former is None:
            raise
        return _scancel(request.job_id, account=former, settings=settings)
    reply = _scancel(request.job_id, account=account, settings=settings)
    if reply.error and denied(reply.error):
        former = _owner(request, identities=identities, settings=settings, find=find)
        if former is not None and former.uid != account.uid:
            return _scancel(request.job_id, account=former, settings=settings)
    return reply


def _owner(
    request: Cancel,
    *,
    identities: IdentityMap,
    settings: Settings,
    find: Callable[[str], Account | None],
) -> Account | None:
    """Whose job this is, if its comment says that it is a pod's of the namespace. Users can write
    that on their own jobs only."""
    argv = [settings.broker.squeue, "--noheader", f"--jobs={request.job_id}", "--format=%u|%k"]
    ended = run_as_self(argv, stdin=b"", timeout=settings.broker.cancel_timeout)
    name, _, comment = ended.stdout.decode(errors="replace").partition("|")
    if not comment.startswith(f"slurmlet:{settings.cluster.name}:{request.namespace}/"):
        return None
    account = find(name)
    return account if account and may_run(account, identities) else None


def _scancel(job_id: int, *, account: Account, settings: Settings) -> Answer:
    argv = [settings.broker.scancel, str(job_id)]
    environment = _environment(account, settings)
    ended = call_as(
        account,
        lambda: execute(argv, environment=environment),
        timeout=settings.broker.cancel_timeout,
    )
    return cancelled(code=ended.code, stderr=ended.stderr.decode(errors="replace"))


def read_log(request: ReadLog, *, account: Account, settings: Settings) -> tuple[Answer, bytes]:
    """A slice of a file, or of all files of a log as one, that the user's own process opens."""
    root = state_dir(account, settings)
    parts = ("pods", request.uid, *request.file.split("/"))

    def work() -> None:
        files = open_log(root, parts)
        _write_all(sum(size for _, size in files).to_bytes(_HEADER, "big"))
        start, left = request.offset, request.limit
        for descriptor, size in files:
            offset, end = start, min(start + left, size)
            while offset < end:
                data = os.pread(descriptor, min(end - offset, 65536), offset)
                if not data:
                    break
                _write_all(data)
                offset += len(data)
                left -= len(data)
            start = max(start - size, 0)

    ended = call_as(account, work, timeout=settings.broker.read_timeout)
    if ended.code is None:
        return Answer(error="the file system did not answer in time", retry=True), b""
    if ended.code != 0 or len(ended.stdout) < _HEADER:
        return Answer(error=f"{request.file}: {ended.stderr.decode(errors='replace')}"), b""
    content = ended.stdout[_HEADER:]
    total = int.from_bytes(ended.stdout[:_HEADER], "big")
    return Answer(size=len(content), total=total), content


def state_dir(account: Account, settings: Settings) -> str:
    """Where the account keeps its pods' state; absolute, as both its parts were checked to be."""
    return user_dir(
        settings.cluster.state_dir,
        cluster=settings.cluster.name,
        user=account.name,
        home=account.home,
    )


def open_log(root: str, parts: tuple[str, ...]) -> list[tuple[int, int]]:
    """Descriptors and sizes of a file and, oldest first, of those that it was rotated to.

    Raises:
        OSError: as `open_beneath`, for the file itself.
    """
    newest = open_beneath(root, parts)
    found = []
    for age in range(LOG_PARTS - 1, 0, -1):
        with suppress(OSError):
            found.append(open_beneath(root, (*parts[:-1], log_part(parts[-1], age))))
    return [(descriptor, os.fstat(descriptor).st_size) for descriptor in (*found, newest)]


def open_beneath(root: str, parts: tuple[str, ...]) -> int:
    """Open a regular file below a directory without following a link on the way.

    Raises:
        OSError: it does not exist, is no regular file, or a link is in the way.
    """
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY)
    for part in parts[:-1]:
        directory = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    # O_NONBLOCK: opening a FIFO must not hang.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(parts[-1], flags, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", parts[-1])
    return descriptor


def _environment(account: Account, settings: Settings) -> dict[str, str]:
    return {
        "PATH": settings.broker.path,
        "HOME": account.home,
        "USER": account.name,
        "LANG": settings.broker.lang,
    }


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
