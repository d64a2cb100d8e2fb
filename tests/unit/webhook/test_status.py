"""The plain port, and when it says that the webhook is ready."""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from prometheus_client import CollectorRegistry, Gauge

from slurmlet.webhook import readiness, status

SECONDS = 10


def get(listener: socket.socket, path: str) -> tuple[int, str]:
    host, port = listener.getsockname()[:2]
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture
def plain() -> Iterator[tuple[socket.socket, list[str]]]:
    """A served plain port, and why the webhook is not ready."""
    registry, why = CollectorRegistry(), [""]
    Gauge("answer", "of everything", registry=registry).set(42)
    with status.listen("127.0.0.1", 0) as listener:
        status.serve(listener, status.pages(registry=registry, problem=lambda: why[0]))
        yield listener, why


def test_its_three_pages(plain: tuple[socket.socket, list[str]]) -> None:
    listener, _ = plain
    assert get(listener, "/healthz") == (200, "ok\n")
    code, text = get(listener, "/metrics?name[]=answer")
    assert (code, "answer 42.0" in text) == (200, True)
    assert get(listener, "/mutate")[0] == 404


@pytest.mark.claim("W91")
def test_who_is_not_ready_says_why(plain: tuple[socket.socket, list[str]]) -> None:
    listener, why = plain
    assert get(listener, "/readyz") == (200, "ok\n")
    why[0] = "port 10270 does not answer: Connection refused"
    assert get(listener, "/readyz") == (503, f"{why[0]}\n")
    assert get(listener, "/healthz")[0] == 200, "that it lives is another question"


def test_clients_that_say_nothing_hold_up_nobody_but_one_another(
    plain: tuple[socket.socket, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurmlet.webhook.status._Handler.timeout", 1.0)
    listener, _ = plain
    address = listener.getsockname()
    silent = [socket.create_connection(address) for _ in range(status.CLIENTS)]
    with closing(socket.create_connection(address, timeout=0.5)) as beyond:
        assert beyond.recv(1) == b"", "hung up on"
    for one in silent:
        one.settimeout(SECONDS)
        assert one.recv(1) == b"", "and these, too, after a while"
        one.close()
    assert get(listener, "/healthz")[0] == 200


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
