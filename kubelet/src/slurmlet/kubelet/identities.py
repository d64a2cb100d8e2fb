"""The identity map and the Unix accounts that it names."""

import asyncio
import pwd
from pathlib import Path

from slurmlet.common.config import ConfigError, read
from slurmlet.contracts.identity import IdentityError, IdentityMap, parse_identity_map

LOOKUP_SECONDS = 10
"""Of one question to the name service, which may be a directory server."""


class Identities:
    """The map in a file, read again when the file changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._map = IdentityMap()

    def current(self) -> IdentityMap:
        """Raises ConfigError when the file cannot be used."""
        try:
            found = Path(self._path).stat()
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}") from None
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp != self._stamp:
            try:
                self._map = parse_identity_map(read(self._path))
            except IdentityError as error:
                raise ConfigError(f"{self._path}: {error}") from None
            self._stamp = stamp
        return self._map


async def uid_of(user: str) -> int | None:
    """The uid of an account, or None if there is none.

    Raises:
        TimeoutError: the name service did not answer.
    """
    return await asyncio.wait_for(asyncio.to_thread(_uid_of, user), LOOKUP_SECONDS)


async def name_of(uid: int) -> str | None:
    """The name of an account, or None if there is none.

    Raises:
        TimeoutError: the name service did not answer.
    """
    return await asyncio.wait_for(asyncio.to_thread(_name_of, uid), LOOKUP_SECONDS)


def _uid_of(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
