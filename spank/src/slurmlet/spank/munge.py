"""Credentials: what root signed, and for whom."""

from slurmlet.contracts.credential import (
    GENUINE,
    UNMUNGE_OPTIONS,
    CredentialError,
    payload_of_root,
)
from slurmlet.spank.process import ProcessError, Program, run

__all__ = ["CredentialError", "Signing", "payload_of_root", "signed_by_root"]

_MUNGE = "/usr/bin/munge"
_UNMUNGE = "/usr/bin/unmunge"


class Signing:
    """A credential in the making, that only the user `reader` (a name or an id) can decode."""

    def __init__(self, payload: str, *, reader: str) -> None:
        """Raises CredentialError."""
        try:
            self._munge = Program([_MUNGE, f"--restrict-uid={reader}"], stdin=payload.encode())
        except ProcessError as error:
            raise CredentialError(f"cannot sign: {error}") from None

    def end(self) -> str:
        """The credential.

        Raises:
            CredentialError: munge does not work on this node.
        """
        try:
            return self._munge.end().strip()
        except ProcessError as error:
            raise CredentialError(f"cannot sign: {error}") from None


def signed_by_root(credential: str) -> str:
    """The payload of a credential that root made on a host of this cluster.

    Raises:
        CredentialError: it was made by another user, or cannot be decoded.
    """
    try:
        text = run([_UNMUNGE, *UNMUNGE_OPTIONS], stdin=credential.encode(), accepted=GENUINE)
    except ProcessError as error:
        raise CredentialError(f"cannot decode the pod's credential: {error}") from None
    return payload_of_root(text)
