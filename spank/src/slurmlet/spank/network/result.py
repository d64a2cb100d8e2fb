"""What CNI plugins print: a result, or an error."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

from slurmlet.spank.network import NetworkError

MAX_RESULT = 16384
"""Bytes; the record holds it, and readers of the record take 64 KiB."""
_MAX_DEPTH = 8
_MAX_VALUES = 800
"""With names; the core takes 1024 of a whole record."""
_MAX_ADDRESSES = 8

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of an ADD: `data` is what the plugin printed, `addresses` the sandbox's."""

    data: Mapping[str, Any]
    addresses: tuple[Address, ...]


def parse(text: str) -> Result:
    """Raises NetworkError."""
    data = decoded(text)
    interfaces = data.get("interfaces", [])
    if not isinstance(interfaces, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("sandbox", ""), str)
        for entry in interfaces
    ):
        raise NetworkError("interfaces: expected a list of objects")
    found = data.get("ips", [])
    if not isinstance(found, list) or len(found) > _MAX_ADDRESSES:
        raise NetworkError(f"ips: expected a list of at most {_MAX_ADDRESSES}")
    addresses = []
    for index, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise NetworkError(f"ips[{index}]: expected an object")
        where = entry.get("interface", 0)
        if type(where) is not int or ("interface" in entry and not 0 <= where < len(interfaces)):
            raise NetworkError(f"ips[{index}].interface: expected an index of interfaces")
        if "interface" in entry and not interfaces[where].get("sandbox"):
            continue
        try:
            address = ip_interface(_text(entry.get("address"))).ip
        except ValueError:
            raise NetworkError(f"ips[{index}].address: expected ADDRESS/LENGTH") from None
        if not address.is_loopback and not address.is_multicast and not address.is_unspecified:
            addresses.append(address)
    if not addresses:
        raise NetworkError("ips: no address for the sandbox")
    return Result(data=data, addresses=tuple(addresses))


def decoded(text: str) -> dict[str, Any]:
    """An object without fractions or exotic depth: the C core reads it as part of the record.

    Raises:
        NetworkError: it is something else.
    """
    if len(text.encode()) > MAX_RESULT:
        raise NetworkError(f"more than {MAX_RESULT} bytes")
    try:
        data = json.loads(
            text, parse_float=_refuse, parse_constant=_refuse, object_pairs_hook=_unique
        )
    except (ValueError, RecursionError) as error:
        raise NetworkError(f"not the JSON that was expected: {error}") from None
    if not isinstance(data, dict) or _depth(data) > _MAX_DEPTH:
        raise NetworkError("not the JSON that was expected")
    if _values(data) > _MAX_VALUES:
        raise NetworkError(f"more than {_MAX_VALUES} values")
    return data


def error_of(text: str) -> str:
    """The message of the error that a plugin printed; empty if it is none."""
    try:
        data = decoded(text)
    except NetworkError:
        return ""
    words = [data.get(key) for key in ("msg", "details")]
    return ": ".join(word.strip() for word in words if isinstance(word, str) and word.strip())


def _text(value: object) -> str:
    # ip_interface takes integers, too.
    if not isinstance(value, str):
        raise ValueError
    return value


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no integer")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a name stands there twice")
    return data


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(item) for item in value), default=0)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise NetworkError("an integer of more than 64 bits")
    if isinstance(value, str) and "\0" in value:
        raise NetworkError("a string with a NUL")
    return 0


def _values(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + _values(item) for item in value.values())
    if isinstance(value, list):
        return 1 + sum(map(_values, value))
    return 1
