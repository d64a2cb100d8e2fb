"""The plain port, for those who look after a component: /healthz, /readyz and /metrics."""

import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

log = logging.getLogger(__name__)

CLIENTS = 8
"""At a time: a Prometheus, a probe and who is curious. Further ones are hung up on."""
READ_SECONDS = 5
"""For a client to say what it wants."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Page]]
"""By path."""


def pages(
    *, registry: CollectorRegistry, ready: Callable[[], str], alive: Callable[[], str] = str
) -> Pages:
    """`ready` and `alive` say why the component is not, if it is not. All are called in threads."""
    return {
        "/healthz": lambda: _checked(alive()),
        "/readyz": lambda: _checked(ready()),
        "/metrics": lambda: Page(HTTPStatus.OK, generate_latest(registry), CONTENT_TYPE_LATEST),
    }


def _checked(problem: str) -> Page:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
    return Page(status, f"{problem or 'ok'}\n".encode())


def listen(address: str, port: int) -> socket.socket:
    """Raises OSError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family)


def serve(listener: socket.socket, found: Pages) -> None:
    """Answer in threads from now on."""
    server = _Server(listener, found)
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()


class _Server(ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, found: Pages) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.pages = found
        self._free = threading.BoundedSemaphore(CLIENTS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        gone = isinstance(sys.exception(), OSError)
        log.log(logging.DEBUG if gone else logging.ERROR, "a page was not sent", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_SECONDS
    server_version = "slurmlet"
    sys_version = ""

    def do_GET(self) -> None:
        found = self.server.pages.get(self.path.partition("?")[0])
        page = found() if found else Page(HTTPStatus.NOT_FOUND, b"not found\n")
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Nothing: who looks each ten seconds is no news."""
