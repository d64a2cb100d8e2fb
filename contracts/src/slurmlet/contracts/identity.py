"""Which Unix user runs the pods of a namespace (docs/contracts.md, Identity map)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from slurmlet.contracts.codec import CodecError, decode

MIN_UID = 1000
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_PATTERN = re.compile(r"[a-z0-9*?-]{1,63}")


class IdentityError(ValueError):
    """An identity map that cannot be used, or a namespace that it does not map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What pods of a namespace run as; empty tuples allow what Slurm allows the user.

    `sharedTrust` says that pods of other namespaces may run as the same user.
    """

    user: str
    accounts: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    qos: tuple[str, ...] = ()
    sharedTrust: bool = False  # noqa: N815 - spelt as in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityMap:
    """The parsed map; `default` "same-name" maps an unlisted namespace to the user of its name."""

    default: str = "deny"
    minUid: int = MIN_UID  # noqa: N815
    namespaces: Mapping[str, Identity] = field(default_factory=dict)

    def lookup(self, namespace: str) -> Identity:
        """The identity of a namespace: its exact entry, else the longest glob that matches.

        Raises:
            IdentityError: nothing maps the namespace.
        """
        exact = self.namespaces.get(namespace)
        if exact:
            return exact
        globs = [glob for glob in self.namespaces if fnmatchcase(namespace, glob)]
        if globs:
            longest = sorted(globs, key=len)[-2:]
            if len(longest) == 2 and len(longest[0]) == len(longest[1]):
                raise IdentityError(
                    f"namespace {namespace!r} matches {longest[0]!r} and {longest[1]!r}, which are"
                    " equally long; ask the administrator to add an exact entry"
                )
            return self.namespaces[longest[-1]]
        if self.default == "same-name" and _USER.fullmatch(namespace):
            return self._same_name(namespace)
        raise IdentityError(
            f"namespace {namespace!r} is not mapped to a Unix user;"
            " ask the administrator to add it to the identity map"
        )

    def _same_name(self, namespace: str) -> Identity:
        for pattern, identity in self.namespaces.items():
            if identity.user == namespace and not identity.sharedTrust:
                raise IdentityError(
                    f"namespace {namespace!r} would run as the user of {pattern!r}; ask the"
                    " administrator to set sharedTrust = true there, or to add an entry for"
                    f" {namespace!r}"
                )
        return Identity(user=namespace)


def parse_identity_map(data: Mapping[str, object]) -> IdentityMap:
    """The map of a parsed identity.toml.

    Raises:
        IdentityError: a key, a user name or a pattern that cannot be used, two globs of equal
            length that match the same namespaces, or a user of several namespaces where
            `sharedTrust` does not say that this is meant.
    """
    try:
        parsed = decode(IdentityMap, data, path="identity.toml")
    except CodecError as error:
        raise IdentityError(str(error)) from None
    if parsed.default not in ("deny", "same-name"):
        raise IdentityError(f'identity.toml.default: {parsed.default!r}; use "deny" or "same-name"')
    for pattern, identity in parsed.namespaces.items():
        if not _PATTERN.fullmatch(pattern):
            raise IdentityError(f"identity.toml.namespaces: {pattern!r} is no namespace or glob")
        if not _USER.fullmatch(identity.user):
            raise IdentityError(
                f"identity.toml.namespaces.{pattern}.user: {identity.user!r} is no Unix user name"
            )
    _refuse_ambiguous(list(parsed.namespaces))
    _refuse_unsaid_sharing(parsed)
    return parsed


def _refuse_unsaid_sharing(parsed: IdentityMap) -> None:
    """One uid is one trust domain: pods of one user can reach each other's processes and files."""
    users: dict[str, list[str]] = {}
    for pattern, identity in parsed.namespaces.items():
        users.setdefault(identity.user, []).append(pattern)
    for pattern, identity in parsed.namespaces.items():
        others = [repr(other) for other in users[identity.user] if other != pattern]
        if identity.sharedTrust or not (others or _is_glob(pattern)):
            continue
        shared = f"namespaces {', '.join(others[:3])}" if others else "all namespaces that match"
        raise IdentityError(
            f"identity.toml.namespaces.{pattern}.user: {identity.user!r} is also the user of"
            f" {shared}; set sharedTrust = true if their pods may reach each other's processes and"
            " files, or give each a user of its own"
        )


def _is_glob(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def _refuse_ambiguous(patterns: list[str]) -> None:
    globs = [pattern for pattern in patterns if _is_glob(pattern)]
    for index, first in enumerate(globs):
        for second in globs[index + 1 :]:
            if len(first) == len(second) and _overlap(first, second):
                raise IdentityError(
                    f"identity.toml.namespaces: {first!r} and {second!r} are equally long and"
                    " match the same namespaces; make one of them longer"
                )


def _overlap(first: str, second: str) -> bool:
    """Whether some text matches both globs."""
    if not first and not second:
        return True
    if first[:1] == "*":
        return _overlap(first[1:], second) or (bool(second) and _overlap(first, second[1:]))
    if second[:1] == "*":
        return _overlap(second, first)
    if not first or not second:
        return False
    return (first[0] == second[0] or "?" in (first[0], second[0])) and _overlap(
        first[1:], second[1:]
    )


Restricted = Literal["account", "partition", "qos"]


def allowed(identity: Identity, option: Restricted) -> tuple[str, ...]:
    """What the map lists for an option; empty if it restricts nothing."""
    return {
        "account": identity.accounts,
        "partition": identity.partitions,
        "qos": identity.qos,
    }[option]


def permitted(identity: Identity, option: Restricted, value: str) -> bool:
    """Whether the map lets a namespace ask for this account, partition (list) or QOS."""
    listed = allowed(identity, option)
    return not listed or all(item in listed for item in value.split(","))
