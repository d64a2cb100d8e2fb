"""Whom the API server believes that it speaks with the webhook. Pure."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_BEGIN = b"-----BEGIN CERTIFICATE-----"


def certificates_of(content: bytes) -> bytes:
    """The certificates in a text of PEM and nothing else of it: whoever may read the webhook's
    configuration reads what stands there.

    Raises:
        ValueError: there is none, or one is damaged.
    """
    found = x509.load_pem_x509_certificates(content)
    if len(found) != content.count(_BEGIN):
        raise ValueError("a certificate that is cut off")
    return b"".join(each.public_bytes(Encoding.PEM) for each in found)
