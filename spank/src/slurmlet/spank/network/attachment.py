"""What is known of a sandbox's network, kept in a file that only root reads.

It is there before the first plugin is called, so that a crash at any point can be undone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from slurmlet.spank.network.conf import Conf
from slurmlet.spank.network.result import Address

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """The host's side."""

    name: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """`container` is what CNI calls the sandbox; no other has the same name. Interface, addresses
    and result are missing until the plugins are done. One that rests has `not_before` (seconds
    since boot) and `tries`, of DEL."""

    container: str
    boot: str
    conf: Conf
    bin_dirs: tuple[str, ...]
    interface: Interface | None = None
    addresses: tuple[Address, ...] = ()
    result: Mapping[str, Any] | None = None
    not_before: float = 0.0
    tries: int = 0


def encode(attachment: Attachment) -> str:
    interface = attachment.interface
    return json.dumps(
        {
            "version": _VERSION,
            "container": attachment.container,
            "boot": attachment.boot,
            "name": attachment.conf.name,
            "cniVersion": attachment.conf.version,
            "plugins": attachment.conf.plugins,
            "binDirs": attachment.bin_dirs,
            "interface": interface and {"name": interface.name, "index": interface.index},
            "addresses": [str(address) for address in attachment.addresses],
            "result": attachment.result,
            "notBefore": attachment.not_before,
            "tries": attachment.tries,
        }
    )


def read(path: Path) -> Attachment | None:
    """The attachment in a file; None if there is none, or a crash cut it: root alone writes it."""
    try:
        data = json.loads(path.read_bytes())
        if data["version"] != _VERSION:
            return None
        interface = data["interface"]
        return Attachment(
            container=data["container"],
            boot=data["boot"],
            conf=Conf(
                name=data["name"], version=data["cniVersion"], plugins=tuple(data["plugins"])
            ),
            bin_dirs=tuple(data["binDirs"]),
            interface=Interface(**interface) if interface else None,
            addresses=tuple(ip_address(text) for text in data["addresses"]),
            result=data["result"],
            not_before=float(data["notBefore"]),
            tries=int(data.get("tries", 0)),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
