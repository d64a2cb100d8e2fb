"""The plain port."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry, Gauge

from slurmlet.common import status

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
    """A served plain port, and why the component is not ready, and why not alive."""
    registry, why = CollectorRegistry(), ["", ""]
    Gauge("answer", "of everything", registry=registry).set(42)
    with status.listen("127.0.0.1", 0) as listener:
        found = status.pages(registry=registry, ready=lambda: why[0], alive=lambda: why[1])
        status.serve(listener, found)
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
    why[1] = "nothing was heard for 61 s"
    assert get(listener, "/healthz") == (503, f"{why[1]}\n")


def test_clients_that_say_nothing_hold_up_nobody_but_one_another(
    plain: tuple[socket.socket, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurmlet.common.status._Handler.timeout", 1.0)
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
