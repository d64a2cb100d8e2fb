"""Streams that the agent asks a supervisor for; the supervisor dials back, one WebSocket each."""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from aiohttp import web

from slurmlet.contracts.podproto import OpenStream
from slurmlet.kubelet.records import Session

DIAL_SECONDS = 15
"""For the supervisor to dial back: TLS on a busy node, once."""


class StreamError(Exception):
    """The supervisor could not open the stream; the message is for the client."""


@dataclass(slots=True)
class _Pending:
    session: Session
    dialled: asyncio.Future[web.WebSocketResponse]
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Streams:
    """Streams between the request and their end, by id."""

    def __init__(self) -> None:
        self._pending: dict[str, _Pending] = {}

    @asynccontextmanager
    async def open(
        self, session: Session, request: OpenStream
    ) -> AsyncIterator[web.WebSocketResponse]:
        """The WebSocket of a new stream; the id of `request` is filled in.

        Raises:
            StreamError: the supervisor refused or did not dial back in time.
        """
        stream_id = secrets.token_hex(16)
        pending = _Pending(session, asyncio.get_running_loop().create_future())
        self._pending[stream_id] = pending
        try:
            try:
                await session.send(replace(request, id=stream_id))
                socket = await asyncio.wait_for(pending.dialled, DIAL_SECONDS)
            except (TimeoutError, ConnectionError):
                raise StreamError("the pod's supervisor does not answer") from None
            yield socket
        finally:
            del self._pending[stream_id]
            pending.done.set()

    def failed(self, session: Session, stream_id: str, message: str) -> None:
        """The supervisor cannot open a stream that it was asked for."""
        pending = self._pending.get(stream_id)
        if pending and pending.session is session and not pending.dialled.done():
            pending.dialled.set_exception(StreamError(message))

    async def serve(self, request: web.Request, *, token: str) -> web.StreamResponse:
        """Take a dialled stream and hold it until whoever asked is done with it."""
        pending = self._pending.get(request.match_info["id"])
        if pending is None or pending.dialled.done():
            return web.Response(status=404, text="no such stream is waited for")
        if not hmac.compare_digest(token, pending.session.token):
            return web.Response(status=401, text="wrong token")
        if request.remote != pending.session.peer:
            return web.Response(status=403, text="wrong address")
        socket = web.WebSocketResponse(heartbeat=20, compress=False)
        await socket.prepare(request)
        if pending.dialled.done():
            await socket.close()
            return socket
        pending.dialled.set_result(socket)
        await pending.done.wait()
        await socket.close()
        return socket
