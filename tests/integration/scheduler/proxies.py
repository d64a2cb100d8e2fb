"""What may stand between a scheduler and its API server: a network that goes dead, and a server
that answers badly."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
from aiohttp import web

from slurmlet.controlplane.run import ControlPlane

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault = Callable[[web.Request], Handler | None]
"""Who answers a request in the API server's place, if anybody."""


class Wire:
    """Forwards bytes, until `cut` is called: then nothing passes any more on what is connected, in
    neither direction, and no end is closed. New connections are forwarded."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        self._port = port
        self._cut: list[asyncio.Event] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """The URL under which the API server is reached through it."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for one in self._cut:
            one.set()
        self._cut.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        dead = asyncio.Event()
        self._cut.append(dead)
        peer_reader, peer_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            # asyncio's server would log that this was cancelled.
            with suppress(asyncio.CancelledError):
                await asyncio.gather(
                    self._pump(reader, peer_writer, dead), self._pump(peer_reader, writer, dead)
                )
        finally:
            peer_writer.close()
            writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dead: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if dead.is_set():
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof() if writer.can_write_eof() else writer.close()


class Bad:
    """The API server, but for what `fault` answers."""

    def __init__(self, plane: ControlPlane) -> None:
        pki = plane.config.pki_dir
        self.fault: Fault = lambda _: None
        self.faults = 0
        self._plane = plane
        self._server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
        self._client = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._client.load_cert_chain(pki / "scheduler.crt", pki / "scheduler.key")
        self._watches: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """The URL under which it is reached."""
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._server)
        await site.start()
        connector = aiohttp.TCPConnector(ssl=self._client, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            self._session = session
            try:
                yield f"https://127.0.0.1:{runner.addresses[0][1]}"
            finally:
                await runner.cleanup()

    def end_watches(self) -> None:
        for task in self._watches:
            task.cancel()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if handler := self.fault(request):
            self.faults += 1
            return await handler(request)
        url = f"{self._plane.server}{request.raw_path}"
        names = ("Content-Type", "Accept")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        body = await request.read()
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method, url, data=body, headers=headers, timeout=timeout
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            watching = "watch" in request.query
            task = asyncio.create_task(self._copy(answer, response))
            if watching:
                self._watches.add(task)
            try:
                await task
            except asyncio.CancelledError:
                # Cut off in the middle, without the last chunk.
                if request.transport:
                    request.transport.close()
            finally:
                self._watches.discard(task)
                task.cancel()
            return response

    async def _copy(self, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
