"""record.json: what root says of a sandbox (docs/contracts.md, Sandbox record)."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAX_ERROR = 500
"""Characters of an error: slurmlet-enter shows up to a kilobyte of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A namespace, as fstat(2) of an open one says."""

    dev: int
    ino: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A sandbox, or why there is none: then `error` says so, and there are no namespaces."""

    job: int
    uid: int
    gid: int
    boot: str
    host: str
    created: int
    mode: str = "host"
    pod_uid: str = ""
    pod_ip: str = ""
    interface: Mapping[str, Any] | None = None
    cni: Mapping[str, Any] | None = None
    namespaces: Mapping[str, Pin]
    error: str = ""


def boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def encode(record: Record) -> str:
    data: dict[str, Any] = {
        "version": VERSION,
        "job": record.job,
        "uid": record.uid,
        "gid": record.gid,
        "boot": record.boot,
        "host": record.host,
        "created": record.created,
        "mode": record.mode,
        "podUID": record.pod_uid,
        "podIP": record.pod_ip,
        "namespaces": {
            kind: {"dev": pin.dev, "ino": pin.ino} for kind, pin in record.namespaces.items()
        },
    }
    if record.interface is not None:
        data |= {"interface": record.interface, "cni": record.cni}
    if record.error:
        data["error"] = record.error[:_MAX_ERROR]
    return json.dumps(data)


def facts(record: Record) -> str:
    """What is signed: enough for the agent to know job, user, host, boot and address."""
    return json.dumps(
        {
            "version": VERSION,
            "job": record.job,
            "uid": record.uid,
            "host": record.host,
            "boot": record.boot,
            "podUID": record.pod_uid,
            "podIP": record.pod_ip,
        }
    )


def read(path: Path) -> Mapping[str, Any] | None:
    """The record in a file; None if there is none that can be read."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and data.get("version") == VERSION else None


def is_live(data: Mapping[str, Any], *, uid: int, boot: str, namespaces: Path) -> bool:
    """Whether a record is of this user and boot and its pins are the namespaces it names."""
    if data.get("uid") != uid or data.get("boot") != boot or "error" in data:
        return False
    pins = data.get("namespaces")
    if not isinstance(pins, dict) or not pins:
        return False
    for kind, pin in pins.items():
        try:
            status = (namespaces / kind).stat()
        except OSError:
            return False
        if pin != {"dev": status.st_dev, "ino": status.st_ino}:
            return False
    return True


def write(path: Path, text: str, *, mode: int, gid: int = 0) -> None:
    """A new file in place of the old one; whoever reads sees one or the other, whole."""
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode())
        os.fchown(descriptor, 0, gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    aside.rename(path)
