"""Interfaces by rtnetlink(7), on the host or in a namespace; no program is started."""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from slurmlet.spank import kernel
from slurmlet.spank.network import NetworkError

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_NEWLINK, _DELLINK, _GETLINK, _ERROR = 16, 17, 18, 2
_REQUEST, _ACK = 1, 4
_IFNAME, _MTU, _PEER, _MASTER, _INFO, _INFO_KIND = 3, 4, 5, 10, 18, 1
_UP = 1
_SECONDS = 5.0
"""The kernel answers at once, but for a lock that every change of an interface takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An interface. `kind` is empty for hardware, `peer` the index of a veth's other side, `master`
    that of the bridge or bond that it is a port of; 0 for none."""

    name: str
    index: int
    kind: str = ""
    mtu: int = 0
    peer: int = 0
    master: int = 0


class Links:
    """The interfaces of one network namespace. All methods raise OSError."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.settimeout(_SECONDS)

    def find(self, *, name: str = "", index: int = 0) -> Link | None:
        """By name or by index."""
        attributes = _pack(_IFNAME, name.encode() + b"\0") if name else b""
        try:
            reply = self._ask(_GETLINK, index=index, attributes=attributes)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return link_of(reply)

    def up(self, index: int, *, mtu: int = 0) -> None:
        attributes = _pack(_MTU, struct.pack("=I", mtu)) if mtu else b""
        self._ask(_NEWLINK, index=index, flags=_UP, attributes=attributes)

    def delete(self, index: int) -> None:
        self._ask(_DELLINK, index=index)

    def _ask(self, kind: int, *, index: int, flags: int = 0, attributes: bytes = b"") -> bytes:
        body = _LINK.pack(socket.AF_UNSPEC, 0, index, flags, flags) + attributes
        wants = _REQUEST if kind == _GETLINK else _REQUEST | _ACK
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, wants, 1, 0) + body)
        reply = self._socket.recv(65536)
        _, answer, _, _, _ = _HEADER.unpack_from(reply)
        if answer == _ERROR:
            code = struct.unpack_from("=i", reply, _HEADER.size)[0]
            if code:
                raise OSError(-code, os.strerror(-code))
        return reply[_HEADER.size :]


@contextmanager
def on_host() -> Iterator[Links]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as connection:
        yield Links(connection)


@contextmanager
def inside(netns: Path) -> Iterator[Links]:
    """Of the network namespace in a file. Raises OSError."""
    with closing(socket.socket(fileno=kernel.netlink(netns))) as connection:
        yield Links(connection)


def link_of(data: bytes) -> Link:
    """An interface from the body of RTM_NEWLINK."""
    _, _, index, _, _ = _LINK.unpack_from(data)
    found = dict(_attributes(data[_LINK.size :]))
    kind = dict(_attributes(found.get(_INFO, b""))).get(_INFO_KIND, b"")
    return Link(
        name=_text(found.get(_IFNAME, b"")),
        index=index,
        kind=_text(kind),
        mtu=_number(found.get(_MTU, b"")),
        peer=_number(found.get(_PEER, b"")),
        master=_number(found.get(_MASTER, b"")),
    )


def host_side(netns: Path, *, name: str) -> Link:
    """The host's side of an interface inside, which is brought up, and so is `lo`.

    The kernel is asked, and not the CNI result, whose format leaves open which is the other side.

    Raises:
        NetworkError: the interface is not there, or is no pair whose other side routes.
    """
    try:
        with inside(netns) as links:
            loopback, own = links.find(name="lo"), links.find(name=name)
            if loopback is None or own is None:
                raise NetworkError(f"the CNI plugins made no {name}")
            links.up(loopback.index)
            links.up(own.index)
        with on_host() as links:
            other = links.find(index=own.peer) if own.peer else None
            if other is None or own.kind != "veth" or other.peer != own.index or other.master:
                # Rules by interface see what is routed, and nothing of a bridge's ports.
                raise NetworkError(
                    f"the CNI plugins' {name} is no routed veth pair (as of plugin ptp): the host"
                    " cannot check whose address it uses"
                )
            return other
    except OSError as error:
        raise NetworkError(f"{name} inside: {error.strerror}") from None


def is_there(name: str, index: int) -> bool:
    """Whether the host has an interface of this name and index."""
    try:
        return socket.if_nametoindex(name) == index
    except OSError:
        return False


def delete(name: str, index: int) -> None:
    """Delete an interface of the host if both name and index are still its own; with it goes the
    other side, in whatever namespace. Raises NetworkError."""
    try:
        with on_host() as links:
            found = links.find(index=index)
            if found is not None and found.name == name:
                links.delete(index)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise NetworkError(f"interface {name}: {error.strerror}") from None


def _pack(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _number(value: bytes) -> int:
    return int(struct.unpack("=I", value)[0]) if len(value) == 4 else 0
