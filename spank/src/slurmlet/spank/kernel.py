"""Namespaces and mounts, by way of the C core."""

import os
from collections.abc import Sequence
from pathlib import Path

from slurmlet.spank._core import ffi, lib
from slurmlet.spank.record import Pin
from slurmlet.spank.subids import Maps

KINDS: tuple[str, ...] = ("user", "ipc", "uts", "net", "pid", "mnt")


class KernelError(Exception):
    """What the kernel refused."""


def make_namespaces(
    kinds: Sequence[str], *, uid: int, gid: int, maps: Maps, directory: Path
) -> dict[str, Pin]:
    """New namespaces that belong to the user, pinned on files of `directory` that exist.

    Raises:
        KernelError: the message says which step failed.
    """
    making = ffi.new("struct slurmlet_making *")
    uid_map, gid_map = (ffi.new("char[]", text.encode()) for text in (maps.uid_map, maps.gid_map))
    making.uid, making.gid = uid, gid
    making.uid_map, making.gid_map = uid_map, gid_map
    making.deny_setgroups = maps.single
    for kind in kinds:
        making.kinds |= 1 << KINDS.index(kind)
    pins = ffi.new("struct slurmlet_pin[]", len(KINDS))
    why = ffi.new("struct slurmlet_message *")
    if lib.slurmlet_namespaces_make(making, bytes(directory), pins, why) < 0:
        raise KernelError(ffi.string(why.text).decode(errors="replace"))
    return {
        kind: Pin(dev=pin.device, ino=pin.inode)
        for kind, pin in zip(KINDS, pins, strict=True)
        if pin.present
    }


def mount_pod(path: Path, *, uid: int, gid: int) -> None:
    """Raises KernelError."""
    code = lib.slurmlet_pod_mount(bytes(path), uid, gid)
    if code < 0:
        raise KernelError(f"cannot mount {path}: {os.strerror(-code)}")


def unmount(path: Path) -> None:
    """Detach whatever is mounted on `path`. Raises KernelError."""
    code = lib.slurmlet_unmount(bytes(path))
    if code < 0:
        raise KernelError(f"cannot unmount {path}: {os.strerror(-code)}")


def netlink(netns: Path) -> int:
    """The descriptor of a netlink socket in a network namespace. Raises OSError."""
    descriptor = lib.slurmlet_netlink_open(bytes(netns))
    if descriptor < 0:
        raise OSError(-descriptor, os.strerror(-descriptor))
    return int(descriptor)
