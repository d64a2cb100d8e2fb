"""How long a client is waited for."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import trustme

from slurmlet.webhook import promptsocket
from slurmlet.webhook.promptsocket import PromptSocket

SECONDS = 10


class Peers:
    """A pair of connected sockets; `secured` is the server's side as gunicorn makes it."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.done = threading.Event()
        self._threads: list[threading.Thread] = []
        ca = trustme.CA()
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("webhook").configure_cert(self._server)
        self._server.sslsocket_class = PromptSocket
        self._client = ssl.create_default_context()
        ca.configure_trust(self._client)

    def begin(self, client: Callable[[ssl.SSLSocket], None]) -> PromptSocket:
        """The handshake is made, and the client does something in a thread."""

        def run() -> None:
            with self._client.wrap_socket(self.theirs, server_hostname="webhook") as secured:
                client(secured)
                self.done.wait(SECONDS)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()
        secured = self.wrap()
        secured.do_handshake()
        return secured

    def wrap(self) -> PromptSocket:
        found = self._server.wrap_socket(self.ours, server_side=True, do_handshake_on_connect=False)
        assert isinstance(found, PromptSocket)
        self.ours = found
        return found

    def close(self) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join(SECONDS)
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    monkeypatch.setattr(promptsocket, "SECONDS", 0.5)
    found = Peers()
    yield found
    found.close()


@pytest.mark.claim("W96")
def test_half_a_handshake_ends(peers: Peers) -> None:
    peers.theirs.sendall(b"\x16\x03\x01\x02\x00\x01")
    with pytest.raises(ConnectionResetError, match="did not go on"):
        peers.wrap().do_handshake()


@pytest.mark.claim("W96")
def test_a_request_that_comes_in_drops_ends(peers: Peers) -> None:
    def drip(client: ssl.SSLSocket) -> None:
        while not peers.done.wait(0.05):
            client.sendall(b"x")

    secured, started = peers.begin(drip), time.monotonic()
    with pytest.raises(ConnectionResetError, match="did not go on"):
        while secured.recv(1):
            assert time.monotonic() - started < SECONDS


def test_each_request_has_its_own_time(peers: Peers) -> None:
    ask = threading.Semaphore(0)

    def two(client: ssl.SSLSocket) -> None:
        for _ in range(2):
            ask.acquire(timeout=SECONDS)
            client.sendall(b"request")
            assert client.recv(10) == b"answer"

    secured = peers.begin(two)
    for _ in range(2):
        time.sleep(promptsocket.SECONDS * 1.2)  # kept alive meanwhile, by gunicorn's poller
        secured.setblocking(True)
        ask.release()
        assert secured.recv(10) == b"request"
        secured.sendall(b"answer")


@pytest.mark.claim("W96")
def test_who_does_not_hang_up_is_not_waited_for(peers: Peers) -> None:
    secured = peers.begin(lambda _: None)
    secured.shutdown(socket.SHUT_WR)
    secured.settimeout(SECONDS)
    started = time.monotonic()
    with pytest.raises(BlockingIOError):
        while secured.recv(4096):
            """What is there already."""
    assert time.monotonic() - started < SECONDS / 2
