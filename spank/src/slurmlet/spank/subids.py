"""Which ids a sandbox has: the user's own as root, and the user's subordinate ones."""

import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slurmlet.spank.process import ProcessError, Program

try:  # OpenSSL, which hashlib loads, takes longer than all the hashing.
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha256

_GETSUBIDS = "/usr/bin/getsubids"
_LEAST = 65536
"""Subordinate ids below are those of people and services."""
FILES = (Path("/etc/subuid"), Path("/etc/subgid"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Maps:
    """Lines of uid_map and gid_map; with one id only, setgroups must be denied."""

    uid_map: str
    gid_map: str
    single: bool


def digest(files: Iterable[Path] = FILES) -> str:
    """SHA-256 over the files' contents; empty if one is missing."""
    total = sha256()
    for file in files:
        try:
            total.update(sha256(file.read_bytes()).digest())
        except OSError:
            return ""
    return str(total.hexdigest())


def maps_of(*, uid: int, gid: int, agreed: str) -> Maps:
    """The id maps of a user: several ids only where all nodes are known to agree on them."""
    if not agreed or digest() != agreed:
        return single(uid=uid, gid=gid)
    try:
        name = pwd.getpwuid(uid).pw_name
        both = Program([_GETSUBIDS, name]), Program([_GETSUBIDS, "-g", name])
        users, groups = (
            ranges(program.end(), own=own) for program, own in zip(both, (uid, gid), strict=True)
        )
    except (KeyError, ProcessError):
        return single(uid=uid, gid=gid)
    if not users or not groups:
        return single(uid=uid, gid=gid)
    return Maps(uid_map=lines(uid, users), gid_map=lines(gid, groups), single=False)


def single(*, uid: int, gid: int) -> Maps:
    return Maps(uid_map=lines(uid, ()), gid_map=lines(gid, ()), single=True)


def lines(own: int, ranges: Iterable[tuple[int, int]]) -> str:
    """Root inside is the user outside; the ranges follow in their order."""
    result = [f"0 {own} 1"]
    inside = 1
    for first, count in ranges:
        result.append(f"{inside} {first} {count}")
        inside += count
    return "".join(f"{line}\n" for line in result)


def ranges(text: str, *, own: int) -> list[tuple[int, int]]:
    """(first, count) of each line `0: NAME FIRST COUNT` of getsubids; others are left out, and so
    is what overlaps an earlier one or has the user's own id."""
    result: list[tuple[int, int]] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 4 and words[2].isdecimal() and words[3].isdecimal():
            first, count = int(words[2]), int(words[3])
            # The kernel's ids are of 32 bits, and the last is none.
            if first < _LEAST or count < 1 or first + count >= 2**32 - 1:
                continue
            # It takes no id twice, but useradd and an administrator may both have given ranges.
            taken = [(own, 1), *result]
            if all(first >= other + size or other >= first + count for other, size in taken):
                result.append((first, count))
    # The kernel takes 340 lines; who needs more than a few has another problem.
    return result[:16]
