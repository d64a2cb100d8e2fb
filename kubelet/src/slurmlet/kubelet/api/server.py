"""Routes of the kubelet API and what kubectl reads of their errors."""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from slurmlet.common.kube import ApiError, Object, UnreachableError
from slurmlet.kubelet.api.auth import Authorizer, attributes, caller_of
from slurmlet.kubelet.api.podlogs import LogError, PodLogs
from slurmlet.kubelet.logs import LogFilter, OptionError, read_options
from slurmlet.kubelet.records import Records

log = logging.getLogger(__name__)

MAX_STREAMS = 1000
"""Logs at once: each holds two sockets of this process."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletApi:
    """`store` holds the pods of the node by key; `healthy` says why the agent is not well, or
    nothing."""

    authorizer: Authorizer
    store: Mapping[str, Object]
    records: Records
    logs: PodLogs
    healthy: Callable[[], str]
    streams: asyncio.Semaphore

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._authorised])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/pods", self._pods)
        app.router.add_get("/runningpods", self._running_pods)
        app.router.add_get("/runningpods/", self._running_pods)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        for verb in ("exec", "attach", "portForward", "run"):
            app.router.add_route("*", f"/{verb}/{{rest:.*}}", self._not_yet)
        return app

    async def serve(self, *, address: str, port: int, context: ssl.SSLContext) -> None:
        """Listen until cancelled.

        Raises:
            OSError: the address is in use or not this host's.
        """
        # A client that leaves a silent log must not leave its stream behind.
        runner = web.AppRunner(
            self.application(), access_log=None, handler_cancellation=True, shutdown_timeout=1
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, address, port, ssl_context=context).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    @web.middleware
    async def _authorised(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        caller = caller_of(transport.get_extra_info("peercert") if transport else None)
        if caller is None:
            return web.Response(status=401, text="Unauthorized")
        wanted = attributes(request.method, request.path)
        try:
            allowed = await self.authorizer.allows(caller, wanted)
        except (ApiError, UnreachableError) as error:
            log.warning("cannot authorise %s: %s", caller.user, error)
            return web.Response(status=500, text="Authorization error")
        if not allowed:
            text = (
                f"Forbidden (user={caller.user}, verb={wanted.verb}, resource=nodes,"
                f" subresource(s)={list(wanted.subresources)})\n"
            )
            return web.Response(status=403, text=text)
        return await handler(request)

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        problem = self.healthy()
        return web.Response(status=500 if problem else 200, text=problem or "ok")

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        return _pod_list(list(self.store.values()))

    async def _running_pods(self, request: web.Request) -> web.StreamResponse:
        running = {record.key for record in self.records if record.session}
        return _pod_list([pod for key, pod in self.store.items() if key in running])

    async def _not_yet(self, request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=501, text=f"{request.path.split('/')[1]} is not implemented on this node yet"
        )

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        match = request.match_info
        pod = self.store.get(f"{match['namespace']}/{match['pod']}")
        if pod is None:
            return web.Response(status=404, text=f'pod "{match["pod"]}" not found')
        try:
            options = read_options(request.query, now_ns=time.time_ns())
        except OptionError as error:
            return web.Response(status=400, text=str(error))
        if self.streams.locked():
            return web.Response(status=429, text=f"{MAX_STREAMS} logs are open already")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        wanted = LogFilter(options)
        async with self.streams:
            try:
                async for data in self.logs.lines(pod, match["container"], options):
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(wanted.feed(data))
                    if wanted.done:
                        break
            except LogError as error:
                if not response.prepared:
                    return web.Response(status=error.status, text=str(error))
                log.warning("%s: log ends early: %s", request.path, error)
            except ConnectionError:
                return response
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response


def _pod_list(pods: list[Object]) -> web.Response:
    return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
