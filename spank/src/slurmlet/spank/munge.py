"""Credentials: what root signed, and for whom."""

from slurmlet.spank.process import ProcessError, run

_MUNGE = "/usr/bin/munge"
_UNMUNGE = "/usr/bin/unmunge"
# munge_err_t: success; expired, rewound, replayed: still signed by who it says, and all payloads of
# ours are bounded by the life of their job instead.
_GENUINE = (0, 15, 16, 17)


class CredentialError(Exception):
    """A credential that is not root's, or none at all."""


def sign(payload: str, *, reader: str) -> str:
    """A credential that only the user `reader` (a name or an id) can decode.

    Raises:
        CredentialError: munge does not work on this node.
    """
    try:
        return run([_MUNGE, f"--restrict-uid={reader}"], stdin=payload.encode()).strip()
    except ProcessError as error:
        raise CredentialError(f"cannot sign: {error}") from None


def signed_by_root(credential: str) -> str:
    """The payload of a credential that root made on a host of this cluster.

    Raises:
        CredentialError: it was made by another user, or cannot be decoded.
    """
    try:
        text = run(
            [_UNMUNGE, "--keys=STATUS,UID,LENGTH", "--numeric"],
            stdin=credential.encode(),
            accepted=_GENUINE,
        )
    except ProcessError as error:
        raise CredentialError(f"cannot decode the pod's credential: {error}") from None
    return payload_of_root(text)


def payload_of_root(text: str) -> str:
    """The payload of what unmunge printed: fields, an empty line, the payload.

    Raises:
        CredentialError: the credential is not root's.
    """
    head, _, payload = text.partition("\n\n")
    fields: dict[str, str] = {}
    for line in head.splitlines():
        name, colon, value = line.partition(":")
        if not colon or name.strip() in fields:
            raise CredentialError("unmunge said what is not understood")
        fields[name.strip()] = value.strip()
    if fields.get("UID") != "0":
        raise CredentialError("the pod's credential was not made by root")
    if fields.get("LENGTH") != str(len(payload.encode())):
        raise CredentialError("the pod's credential was cut")
    return payload
