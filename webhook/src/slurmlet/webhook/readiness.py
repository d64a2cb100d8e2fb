"""Whether the port that the API server calls does what it is there for."""

import http.client
import ssl

SECONDS = 2.0
"""Of a connection: the API server itself waits for 3 s."""
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def problem(*, address: str, port: int) -> str:
    """Why nobody is served at this address, or an empty text: a handshake is made and /healthz is
    asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Who answers is ourselves; whether others trust the certificate is theirs to say.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        _ANY.get(address, address), port, timeout=SECONDS, context=context
    )
    try:
        connection.request("GET", "/healthz", headers={"Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return f"port {port} does not answer: {why}"
    finally:
        connection.close()
    return "" if status == http.HTTPStatus.OK else f"port {port} answers with status {status}"
