"""Who a request runs as, and whether it may ask for what it asks. No I/O."""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slurmlet.contracts.brokerproto import RefusedError
from slurmlet.contracts.identity import (
    MIN_UID,
    Identity,
    IdentityError,
    IdentityMap,
    Restricted,
    allowed,
    permitted,
)

_RESTRICTED: tuple[Restricted, ...] = ("account", "partition", "qos")
_NO_LOGIN = frozenset({"nologin", "false", "true", "sync", "halt", "shutdown"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A Unix user as the name service knows it; `groups` are all of its group ids, `known_as` is
    the name that it has for the uid, which several names may share."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str
    known_as: str


def account_of(
    namespace: str, *, identities: IdentityMap, find: Callable[[str], Account | None]
) -> tuple[Identity, Account]:
    """The identity of a namespace and its Unix account.

    Raises:
        RefusedError: the namespace is not mapped, or its user may not run jobs.
    """
    try:
        identity = identities.lookup(namespace)
    except IdentityError as error:
        raise RefusedError(str(error)) from None
    account = find(identity.user)
    if account is None:
        raise RefusedError(
            f"user {identity.user!r} of namespace {namespace!r} does not exist here;"
            " ask the administrator to make the user or to correct the identity map"
        )
    problem = _account_problem(account, least=max(identities.minUid, MIN_UID))
    if account.known_as != account.name and not identity.sharedTrust:
        problem = problem or (
            f"has the uid of {account.known_as!r} and sharedTrust is not set for the namespace"
        )
    if problem:
        raise RefusedError(
            f"user {identity.user!r} of namespace {namespace!r} {problem};"
            " ask the administrator, the identity map decides who runs pods"
        )
    return identity, account


def authorised_options(
    options: Mapping[str, str], *, identity: Identity, namespace: str
) -> dict[str, str]:
    """The options of a submission, completed with what the identity map restricts.

    What the map lists and the request leaves out is set to the map's first entry, because Slurm's
    own default need not be on the list.

    Raises:
        RefusedError: the map does not let this namespace ask for an account, partition or QOS.
    """
    result = dict(options)
    for option in _RESTRICTED:
        listed = allowed(identity, option)
        if option not in result:
            if listed:
                result[option] = listed[0]
        elif not permitted(identity, option, result[option]):
            raise RefusedError(
                f"{option} {result[option]!r} is not permitted to namespace {namespace!r};"
                f" permitted are {', '.join(listed)}"
            )
    return result


def may_run(account: Account, identities: IdentityMap) -> bool:
    """Whether the account may run anything, whatever the map says about namespaces."""
    return _account_problem(account, least=max(identities.minUid, MIN_UID)) is None


def _account_problem(account: Account, *, least: int) -> str | None:
    if account.uid < least:
        return f"has uid {account.uid}, below the least permitted {least}"
    if account.gid < 1 or 0 in account.groups:
        return "is in group root, which pods may not be"
    if posixpath.basename(account.shell) in _NO_LOGIN:
        return f"may not log in (shell {account.shell})"
    home = account.home
    plain = home.isprintable() and "\\" not in home
    if not home.startswith("/") or posixpath.normpath(home) != home or not plain:
        return f"has the unusable home directory {home!r}"
    return None
