"""Apptainer on the same root file system: it sees root of the pod's user namespace as its user."""

import re
from pathlib import PurePosixPath

from slurmlet.supervisor.engines.interface import ContainerSpec, Launch, Mount, Place
from slurmlet.supervisor.files import make_mount_point

_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""All that Linux has; the mapped root that Apptainer starts as has every one of them."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_READ_ONLY = frozenset({"UID", "EUID", "GID"})
_FATAL = re.compile(r"(?:\x1b\[\d*m)?FATAL: {3}(.+?)(?:\x1b\[\d*m)?\n?")
_FAILED = 255
"""How Apptainer ends when it cannot start a container."""
_PREFIX = "APPTAINERENV_"
"""Marks what of Apptainer's own environment is the container's."""
_DEV = PurePosixPath("/dev")


class Apptainer:
    name = "apptainer"
    prefix = len(_PREFIX)
    # Of the mebibyte in which its starter is told everything.
    room = 1_000_000
    # In its own, /dev/termination-log has no place to be mounted on.
    wants_devices = True

    def launch(self, spec: ContainerSpec, place: Place) -> Launch:
        root = place.anchor.path(place.rootfs)
        # Without its own overlay it needs every mount point; with it
        # /etc/passwd would not be the image's.
        for name in ("/proc", "/sys", "/dev"):
            make_mount_point(root, name, directory=True)
        make_mount_point(root, "/etc/resolv.conf", directory=False)
        for mount in spec.mounts:
            target = PurePosixPath(mount.target)
            below = target.relative_to(_DEV) if place.devices and _DEV in target.parents else None
            make_mount_point(
                place.anchor.path(place.devices) if below else root,
                str(below or target),
                directory=mount.directory,
            )
        return Launch(
            arguments=tuple(arguments(spec, place)),
            environment={
                **place.anchor.environment,
                # Its configuration and cache stay out of the user's home directory.
                "APPTAINER_CONFIGDIR": place.bundle,
                "APPTAINER_CACHEDIR": place.bundle,
                # As --home, SOURCE:TARGET, of which --no-mount leaves only the value of HOME; that
                # is a value of the container's environment, so it stays out of the arguments.
                "APPTAINER_HOME": f"/:{spec.environment.get('HOME', '/')}",
                **{f"{_PREFIX}{key}": value for key, value in spec.environment.items()},
            },
        )

    def takes(self, name: str) -> bool:
        # A shell's script brings the environment in; it ends at the first name that it cannot set.
        return bool(_VARIABLE.fullmatch(name)) and name not in _READ_ONLY

    def error(self, text: str, *, code: int) -> str:
        # A container that has begun would have made more of its output than this line.
        found = _FATAL.fullmatch(text) if code == _FAILED else None
        return found[1] if found else ""


def arguments(spec: ContainerSpec, place: Place) -> list[str]:
    """apptainer's command line; the environment is not in it."""
    result = [
        "apptainer",
        "--silent",
        "exec",
        "--contain",
        "--cleanenv",
        "--pid",
        "--no-init",
        "--no-eval",
        "--no-umask",
        "--no-mount=tmp,home,cwd,hostfs,bind-paths" + (",dev,devpts" if place.devices else ""),
        f"--pwd={spec.directory}",
    ]
    if not spec.read_only:
        # The root file system is an overlay of the container's own already.
        result.append("--writable")
    if spec.uid != 0 or spec.gid != 0:
        gids = ":".join(str(gid) for gid in (spec.gid, *spec.groups))
        result.append(f"--security=uid:{spec.uid},gid:{gids}")
    if not spec.privilege_escalation:
        result.append("--no-privs")
    dropped = [name for name in _CAPABILITIES if name not in spec.capabilities]
    if dropped:
        result.append(f"--drop-caps={','.join(dropped)}")
    if place.sysfs != "/sys":
        # Over Apptainer's own, which is always the node's.
        result.append(f"--mount={_bind(Mount(source=place.sysfs, target='/sys', read_only=True))}")
    if place.devices:
        result.append(f"--mount={_bind(Mount(source=place.devices, target=str(_DEV)))}")
    result.extend(f"--mount={_bind(mount)}" for mount in spec.mounts)
    return [*result, place.rootfs, *spec.arguments]


def _bind(mount: Mount) -> str:
    fields = ["type=bind", f"source={mount.source}", f"destination={mount.target}"]
    if mount.read_only:
        fields.append("ro")
    # --mount is read as CSV.
    return ",".join(f'"{field.replace(chr(34), chr(34) * 2)}"' for field in fields)
