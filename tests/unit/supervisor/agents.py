"""An agent for tests, made of another WebSocket implementation."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from slurmlet.contracts.podproto import (
    Ack,
    Hello,
    Message,
    Plan,
    Status,
    decode_message,
    encode_message,
    encode_plan,
)


class Agent:
    """What it received, per connection, and how it answers."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.tls = tls
        self.port = 0
        self.received: list[Message] = []
        self.paths: list[str] = []
        self.bearers: list[str | None] = []
        self.streams: dict[str, list[Any]] = {}
        self.connection: ServerConnection | None = None
        self.news = asyncio.Event()
        self.on_message: Callable[[Message], list[Message]] = lambda _: []

    async def handle(self, connection: ServerConnection) -> None:
        assert connection.request
        path = connection.request.path
        self.paths.append(path)
        self.bearers.append(connection.request.headers.get("Authorization"))
        if path.startswith("/v1/streams/"):
            got = self.streams.setdefault(path.rsplit("/", 1)[1], [])
            self.news.set()
            async for data in connection:
                got.append(data)
                self.news.set()
            got.append(None)
            self.news.set()
            return
        self.connection = connection
        self.news.set()
        async for text in connection:
            assert isinstance(text, str)
            message = decode_message(text)
            assert message
            self.received.append(message)
            for answer in self.on_message(message):
                await connection.send(encode_message(answer))
            self.news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def send(self, message: Message) -> None:
        assert self.connection
        await self.connection.send(encode_message(message))

    def of(self, kind: type[Message]) -> list[Any]:
        return [message for message in self.received if isinstance(message, kind)]

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[None]:
        async with serve(self.handle, "127.0.0.1", port, ssl=self.tls) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield


def give(plan: Plan) -> Callable[[Message], list[Message]]:
    """Answers a hello with the plan and each status with an acknowledgement."""

    def answer(message: Message) -> list[Message]:
        if isinstance(message, Hello) and not message.planned:
            return list(encode_plan(plan))
        return [Ack(seq=message.seq)] if isinstance(message, Status) else []

    return answer
