"""Users and groups of an image: what its /etc/passwd and /etc/group say. No I/O."""

from collections.abc import Iterator
from dataclasses import dataclass


class UserError(ValueError):
    """A user that an image does not have; the message is for the pod's author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    uid: int
    gid: int
    home: str


def resolve_user(text: str, *, passwd: str, group: str) -> User:
    """The user of an image's `User` or a securityContext: NAME|UID[:GROUP|GID], empty is root.

    Raises:
        UserError: a name that the image does not have.
    """
    name, colon, group_name = text.partition(":")
    name = name or "0"
    entry = next(
        (fields for fields in _entries(passwd, 6) if fields[0] == name or fields[2] == name), None
    )
    if entry is None and not name.isdecimal():
        raise UserError(f"unable to find user {name[:64]}: no matching entries in passwd file")
    uid = int(entry[2]) if entry else int(name)
    gid = int(entry[3]) if entry and entry[3].isdecimal() else 0
    if colon and group_name:
        gid = _group_id(group_name, group)
    if max(uid, gid) >= 2**32 - 1:
        raise UserError(f"user {text[:64]!r} is out of range")
    return User(uid=uid, gid=gid, home=(entry[5] if entry else "") or "/")


def groups_of(user_name: str, *, group: str) -> tuple[int, ...]:
    """The ids of the groups that list a user."""
    return tuple(
        int(fields[2]) for fields in _entries(group, 4) if user_name in fields[3].split(",")
    )


def _group_id(name: str, group: str) -> int:
    entry = next(
        (fields for fields in _entries(group, 4) if fields[0] == name or fields[2] == name), None
    )
    if entry:
        return int(entry[2])
    if name.isdecimal():
        return int(name)
    raise UserError(f"unable to find group {name[:64]}: no matching entries in group file")


def _entries(text: str, least: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= least and fields[2].isdecimal():
            yield fields
