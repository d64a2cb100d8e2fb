"""What unmunge(1) says of a credential. Pure; whoever runs it has its own way to do so."""

UNMUNGE_OPTIONS = ("--keys=STATUS,UID,LENGTH", "--numeric")
GENUINE = (0, 15, 16, 17)
"""Exit codes (munge_err_t): success; expired, rewound, replayed: still signed by who it says. All
payloads of ours are bounded by the life of their job instead."""
UNAVAILABLE = (1, 2, 3, 4, 5, 6, 7)
"""Exit codes that say nothing of the credential: munged is down, slow or out of memory."""


class CredentialError(Exception):
    """A credential that is not root's, or none at all."""


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
