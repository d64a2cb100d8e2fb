"""TLS contexts of servers and clients."""

import ssl


def server_context(*, cert: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
    """A server's context; with `client_ca` a client may, but need not, show a certificate of it.

    Raises:
        OSError, ssl.SSLError: a file is missing or is no certificate or key.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    if client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def check_client(*, cert: str, key: str, server_ca: str) -> None:
    """See that a client can use these files.

    Raises:
        OSError, ssl.SSLError: a file is missing or is no certificate or key.
    """
    ssl.create_default_context(cafile=server_ca).load_cert_chain(cert, key)
