"""In the prolog: a sandbox for a job, or a record that says why there is none."""

import json
import os
import time
from dataclasses import asdict, dataclass, replace

from slurmlet.spank import config, kernel, munge, record
from slurmlet.spank.layout import Sandbox, sandbox_of
from slurmlet.spank.lock import Busy, locked
from slurmlet.spank.network import NetworkError
from slurmlet.spank.network.attach import attach, detach, enforce
from slurmlet.spank.record import Record
from slurmlet.spank.subids import maps_of

KINDS = ("user", "ipc", "uts")
"""Of every sandbox; one with a network of its own has `net`, too."""
_MODES = ("host", "net")


class SandboxError(Exception):
    """Why a job gets no sandbox, in words for its user."""


_EXPECTED = (
    SandboxError,
    NetworkError,
    config.ConfigError,
    kernel.KernelError,
    munge.CredentialError,
    OSError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a job may have: a pod's job by the broker's credential, another by the site's leave."""

    mode: str
    pod_uid: str = ""


def make(*, job: int, uid: int, gid: int, mode: str, credential: str) -> None:
    """Make the sandbox of a job; one of this boot with live pins stays as it is.

    Raises:
        OSError: not even a record could be written.
    """
    sandbox = sandbox_of(job)
    try:
        with locked(sandbox.root, make=True):
            boot = record.boot_id()
            known = None if sandbox.tombstone.exists() else record.read(sandbox.record)
            if known and record.is_live(known, uid=uid, boot=boot, namespaces=sandbox.namespaces):
                open_to_user(sandbox)
                return
            _make(sandbox, job=job, uid=uid, gid=gid, mode=mode, credential=credential, boot=boot)
    except Busy:
        raise OSError(f"the sandbox of job {job} is being worked on for too long") from None


def _make(
    sandbox: Sandbox, *, job: int, uid: int, gid: int, mode: str, credential: str, boot: str
) -> None:
    made = Record(
        job=job,
        uid=uid,
        gid=gid,
        boot=boot,
        host=os.uname().nodename,
        created=int(time.time()),
        mode=mode or "host",
        namespaces={},
    )
    network = None
    try:
        settings = config.load()
        network = settings.network
        clear(sandbox, network=network)
        grant = granted(settings, uid=uid, mode=mode, credential=credential)
        if not network.conf_dir:
            grant = replace(grant, mode="host")
        made = replace(made, mode=grant.mode, pod_uid=grant.pod_uid)
        done = _furnished(sandbox, made, settings=settings)
        signing = munge.Signing(record.facts(done), reader=settings.agent_user)
        try:
            if done.interface is not None:
                enforce(sandbox, network=network)
        finally:
            signed = signing.end()
        record.write(sandbox.signed, signed, mode=0o640, gid=gid)
        record.write(sandbox.record, record.encode(done), mode=0o644)
        open_to_user(sandbox)
        return
    except _EXPECTED as failure:
        error = _words(failure)
    try:
        clear(sandbox, network=network)
    except _EXPECTED as failure:
        # Its epilog tries again.
        error = f"{error}; then {_words(failure)}"
    record.write(sandbox.record, record.encode(replace(made, error=error)), mode=0o644)


def open_to_user(sandbox: Sandbox) -> None:
    """Let users pass to the pins, where the kernel lets in their owner only.

    Until the record is there nobody is in the namespaces and nothing was sent from them: all that
    a crash leaves may be undone without a trace.
    """
    sandbox.namespaces.chmod(0o755)


def _words(failure: Exception) -> str:
    return str(failure) or type(failure).__name__


def granted(settings: config.Settings, *, uid: int, mode: str, credential: str) -> Grant:
    """What this job may have.

    Raises:
        SandboxError: nothing.
        CredentialError: its credential is not the broker's.
    """
    if credential:
        return grant_of(munge.signed_by_root(credential), uid=uid)
    if settings.users == config.AGENT:
        raise SandboxError("this site makes sandboxes for pods only (sandbox.users is agent)")
    if settings.users != config.ALL and not _in_group(uid, settings.users):
        raise SandboxError(f"this site makes sandboxes for pods and group {settings.users} only")
    return Grant(mode=mode)


def grant_of(payload: str, *, uid: int) -> Grant:
    """The grant in a credential's payload, which is for one user's one pod.

    Raises:
        SandboxError: it is another user's, or not understood.
    """
    try:
        data = json.loads(payload)
        version, owner, pod, mode = (data[key] for key in ("version", "uid", "podUID", "mode"))
    except (ValueError, TypeError, LookupError):
        raise SandboxError("the pod's credential is not understood: upgrade this node") from None
    if version != 1 or mode not in _MODES or not isinstance(pod, str) or type(owner) is not int:
        raise SandboxError("the pod's credential is not understood: upgrade this node")
    if owner != uid:
        raise SandboxError("the pod's credential is another user's")
    return Grant(mode=mode, pod_uid=pod)


def _furnished(sandbox: Sandbox, plan: Record, *, settings: config.Settings) -> Record:
    uid, gid = plan.uid, plan.gid
    kinds = (*KINDS, "net") if plan.mode == "net" else KINDS
    sandbox.namespaces.mkdir(mode=0o700)
    for kind in kinds:
        (sandbox.namespaces / kind).touch(mode=0o444)
    maps = maps_of(uid=uid, gid=gid, agreed=settings.subid_digest)
    pins = kernel.make_namespaces(kinds, uid=uid, gid=gid, maps=maps, directory=sandbox.namespaces)
    sandbox.pod.mkdir(mode=0o700)
    kernel.mount_pod(sandbox.pod, uid=uid, gid=gid)
    if plan.mode != "net":
        return replace(plan, namespaces=pins)
    attached = attach(sandbox, job=plan.job, boot=plan.boot, network=settings.network)
    return replace(
        plan,
        namespaces=pins,
        pod_ip=str(attached.addresses[0]),
        interface=asdict(attached.interface) if attached.interface else None,
        cni=attached.result,
    )


def clear(sandbox: Sandbox, *, network: config.Network | None) -> None:
    """Empty a sandbox's directory: take its network away, detach what is mounted, unlink what is
    there. `network` is None if the configuration cannot be read.

    Raises:
        NetworkError, KernelError, OSError: something does not go; what does is gone.
    """
    try:
        detach(sandbox, network=network)
    finally:
        _unpin(sandbox)
    for file in sandbox.root.iterdir():
        if file != sandbox.tombstone:
            file.unlink()
    sandbox.tombstone.unlink(missing_ok=True)


def _unpin(sandbox: Sandbox) -> None:
    for kind in kernel.KINDS:
        pin = sandbox.namespaces / kind
        if pin.exists():
            kernel.unmount(pin)
            pin.unlink()
    if sandbox.namespaces.exists():
        sandbox.namespaces.rmdir()
    if sandbox.pod.exists():
        kernel.unmount(sandbox.pod)
        sandbox.pod.rmdir()


def _in_group(uid: int, group: str) -> bool:
    import grp  # noqa: PLC0415 - only where a site names a group
    import pwd  # noqa: PLC0415

    try:
        account = pwd.getpwuid(uid)
        wanted = grp.getgrnam(group).gr_gid
    except KeyError:
        return False
    return wanted in os.getgrouplist(account.pw_name, account.pw_gid)
