"""A WebSocket client over TLS: wsproto on asyncio's streams."""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

CONNECT_TIMEOUT = 15.0
"""Seconds for TCP, TLS and the upgrade together."""
SEND_TIMEOUT = 60.0
"""Seconds that a peer may refuse to read before it is given up."""
_CLOSE_TIMEOUT = 2.0


class ChannelError(Exception):
    """A connection that could not be made or is lost."""


class WebSocket:
    """An open connection; made by `connect`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        protocol: WSConnection,
        *,
        max_message: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = protocol
        self._max_message = max_message
        self._partial: list[str] = []
        self._partial_size = 0
        self._aborted = False

    async def receive(self) -> str | None:
        """The next text message, or None after an orderly close. May be cancelled.

        Raises:
            ChannelError: the connection is lost or the peer breaks the protocol.
        """
        while True:
            try:
                for event in self._protocol.events():
                    if isinstance(event, TextMessage):
                        text = self._collect(event)
                        if text is not None:
                            return text
                    elif isinstance(event, Ping):
                        self._write(event.response())
                    elif isinstance(event, CloseConnection):
                        with suppress(LocalProtocolError):
                            self._write(event.response())
                        return None
                    elif isinstance(event, Pong):
                        return ""
                data = await self._reader.read(65536)
                self._protocol.receive_data(data or None)
                if not data:
                    raise ChannelError("connection lost")
            except (OSError, RemoteProtocolError, LocalProtocolError) as error:
                raise ChannelError(f"connection lost: {error}") from None

    async def send(self, data: str | bytes) -> None:
        """Send one message.

        Raises:
            ChannelError: the connection is lost or the peer does not read.
        """
        message = TextMessage(data=data) if isinstance(data, str) else BytesMessage(data=data)
        await self._send(message)

    async def ping(self) -> None:
        """Ask for a sign of life, which `receive` gives as an empty message."""
        await self._send(Ping())

    def abort(self) -> None:
        """Drop the connection at once."""
        self._aborted = True
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close in order if the peer allows it quickly."""
        if self._aborted:
            return
        with suppress(ChannelError, LocalProtocolError, TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._send(CloseConnection(code=1000))
                while await self.receive() is not None:
                    pass
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._writer.wait_closed()
        except (OSError, ssl.SSLError, TimeoutError):
            # A peer that does not answer TLS's good-bye would keep the socket open.
            self.abort()

    async def _send(self, event: TextMessage | BytesMessage | Ping | CloseConnection) -> None:
        try:
            self._write(event)
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._writer.drain()
        except TimeoutError:
            raise ChannelError("the peer does not read") from None
        except (OSError, LocalProtocolError) as error:
            raise ChannelError(f"connection lost: {error}") from None

    def _write(self, event: TextMessage | BytesMessage | Ping | Pong | CloseConnection) -> None:
        self._writer.write(self._protocol.send(event))

    def _collect(self, event: TextMessage) -> str | None:
        self._partial.append(event.data)
        self._partial_size += len(event.data)
        if self._partial_size > self._max_message:
            raise ChannelError("message too large")
        if not event.message_finished:
            return None
        text = "".join(self._partial)
        self._partial, self._partial_size = [], 0
        return text


async def connect(
    *,
    host: str,
    port: int,
    path: str,
    headers: Mapping[str, str],
    tls: ssl.SSLContext,
    max_message: int,
) -> WebSocket:
    """Open a connection to wss://HOST:PORT/PATH.

    Raises:
        ChannelError: it is refused; the message never has the headers.
    """
    protocol = WSConnection(ConnectionType.CLIENT)
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=tls, server_hostname=host
            )
            try:
                extra = [(key.encode(), value.encode()) for key, value in headers.items()]
                request = Request(host=authority, target=path, extra_headers=extra)
                writer.write(protocol.send(request))
                await writer.drain()
                while True:
                    data = await reader.read(65536)
                    protocol.receive_data(data or None)
                    if not data:
                        raise ChannelError(f"{authority} ended the connection")
                    for event in protocol.events():
                        if isinstance(event, RejectConnection):
                            raise ChannelError(f"{authority} answered {event.status_code}")
                        if isinstance(event, AcceptConnection):
                            return WebSocket(reader, writer, protocol, max_message=max_message)
            except BaseException:
                writer.close()
                raise
    except TimeoutError:
        raise ChannelError(f"{authority} does not answer") from None
    except (OSError, RemoteProtocolError, LocalProtocolError) as error:
        raise ChannelError(f"{authority}: {error}") from None
