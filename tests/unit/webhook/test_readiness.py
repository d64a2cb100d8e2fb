"""When the plain port says that the webhook is ready."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from slurmlet.webhook import readiness

SECONDS = 10


Answer = Callable[[socket.socket], None]


@pytest.fixture
def server() -> Iterator[Callable[[Answer], int]]:
    """serve(what is done with a connection) → the port that does so once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(answer: Answer) -> int:
            def once() -> None:
                accepted, _ = listener.accept()
                with closing(accepted):
                    answer(accepted)

            threading.Thread(target=once, daemon=True).start()
            port: int = listener.getsockname()[1]
            return port

        yield serve


def tls(directory: Path, text: bytes) -> Answer:
    """Makes the handshake, reads a request and says this text."""
    leaf = trustme.CA().issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)

    def answer(accepted: socket.socket) -> None:
        with context.wrap_socket(accepted, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(text)

    return answer


@pytest.mark.claim("W91")
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_is_ready_when_it_makes_a_handshake_and_answers(
    server: Callable[[Answer], int], tmp_path: Path, address: str
) -> None:
    port = server(tls(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    assert readiness.problem(address=address, port=port) == ""


@pytest.mark.claim("W91")
def test_a_port_is_not_ready_before(
    server: Callable[[Answer], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        said = readiness.problem(address="127.0.0.1", port=port)
    assert said == f"port {port} does not answer: Connection refused"

    port = server(tls(tmp_path, b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n"))
    assert "answers with status 500" in readiness.problem(address="127.0.0.1", port=port)

    port = server(lambda accepted: accepted.sendall(b"HTTP/1.1 200 OK\r\n\r\n"))
    assert f"port {port} does not answer" in readiness.problem(address="127.0.0.1", port=port)

    monkeypatch.setattr(readiness, "SECONDS", 0.1)
    held = threading.Event()
    port = server(lambda _: (held.wait(SECONDS), None)[1])
    assert "timed out" in readiness.problem(address="127.0.0.1", port=port)
    held.set()
