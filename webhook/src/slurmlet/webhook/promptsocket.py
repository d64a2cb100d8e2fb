"""A TLS connection whose client has to go on.

gunicorn gives each request, and before it the handshake, a thread of a few, which waits for the
client without end; and its main thread waits two seconds for a client to hang up.
"""

import errno
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 3.0
"""For a handshake and a request together, or for one further request: by then the API server has
given up on the answer."""
_LEAST = 0.001
"""Seconds, so that what has arrived is read: zero would be another mode of the socket."""


class PromptSocket(ssl.SSLSocket):
    """Hangs up on who does not go on, and waits for nobody to hang up."""

    _deadline = 0.0
    _ended = False

    def setblocking(self, flag: bool) -> None:
        """gunicorn calls it when it begins to read."""
        self._deadline = time.monotonic() + SECONDS
        super().setblocking(flag)

    def do_handshake(self, block: bool = False) -> None:
        self.setblocking(True)
        with self._in_time():
            super().do_handshake(block)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        with self._in_time():
            return super().recv(buflen, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        with self._in_time():
            return super().send(data, flags)

    def shutdown(self, how: int) -> None:
        """What is read afterwards is thrown away, so only what is there already is."""
        self._ended = True
        super().shutdown(how)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        left = max(self._deadline - time.monotonic(), _LEAST)
        self.settimeout(0.0 if self._ended else left)
        try:
            yield
        except TimeoutError:
            # For gunicorn a client that went away, and nothing to log.
            raise ConnectionResetError(errno.ECONNRESET, "the client did not go on") from None
