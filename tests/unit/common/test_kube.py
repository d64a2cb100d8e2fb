"""The seam against a small HTTP server that answers as an API server does, also badly."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from slurmlet.common import kube
from slurmlet.common.kube import Api, ApiError, UnreachableError

WATCHES = 200

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers every request with `handler`; `asked` are the requests seen."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.bodies: list[Any] = []
        self.handler: Handler = _not_set

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.can_read_body:
            self.bodies.append(await request.json())
        return await self.handler(request)


async def _not_set(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, Api]]:
    server = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with Api(Configuration(host=f"http://127.0.0.1:{port}")) as api:
        yield server, api
    await runner.cleanup()


async def test_list_follows_every_page(server: tuple[Server, Api]) -> None:
    fake, api = server

    async def pages(request: web.Request) -> web.StreamResponse:
        last = request.query.get("continue") == "next"
        metadata = {"resourceVersion": "7"} | ({} if last else {"continue": "next"})
        item = {"metadata": {"name": "second" if last else "first"}}
        return web.json_response({"kind": "PodList", "metadata": metadata, "items": [item]})

    fake.handler = pages
    items, version = await api.list("/api/v1/pods", {"fieldSelector": "spec.nodeName=slurm"})

    assert [item["metadata"]["name"] for item in items] == ["first", "second"]
    assert version == "7"
    assert fake.asked[0].query["fieldSelector"] == "spec.nodeName=slurm"


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "Status"},
        {"kind": "Pod"},
        {},
        {"kind": "PodLister"},
        {"kind": "PodList", "metadata": {"resourceVersion": "7"}},
        {"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": {}},
        {"kind": "PodList", "metadata": {}, "items": []},
        {"kind": "PodList", "items": []},
    ],
    ids=str,
)
async def test_an_answer_that_is_no_list_is_no_information(
    server: tuple[Server, Api], body: dict[str, Any]
) -> None:
    fake, api = server

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body)

    fake.handler = answer
    with pytest.raises(UnreachableError):
        await api.list("/api/v1/pods")


LIST = {"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": []}


async def test_a_list_comes_with_200_and_whole(server: tuple[Server, Api]) -> None:
    fake, api = server

    async def other_status(_: web.Request) -> web.StreamResponse:
        return web.json_response(LIST, status=203)

    fake.handler = other_status
    with pytest.raises(ApiError) as caught:
        await api.list("/api/v1/pods")
    assert caught.value.status == 203

    async def cut_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(json.dumps(LIST).encode())
        assert request.transport
        request.transport.close()
        return response

    fake.handler = cut_off
    with pytest.raises(UnreachableError):
        await api.list("/api/v1/pods")


async def test_an_empty_list_of_go_is_one(server: tuple[Server, Api]) -> None:
    fake, api = server

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({**LIST, "items": None})

    fake.handler = answer
    assert await api.list("/api/v1/pods") == ([], "7")


async def test_each_page_is_trimmed(server: tuple[Server, Api]) -> None:
    fake, api = server

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({**LIST, "items": [{"metadata": {"name": "web"}, "spec": {}}]})

    fake.handler = answer
    items, _ = await api.list("/api/v1/pods", trim=lambda item: item["metadata"])
    assert items == [{"name": "web"}]


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("100000", 60), ("soon", 0), ("-1", 0), ("", 0)]
)
async def test_a_busy_server_says_for_how_long(
    server: tuple[Server, Api], header: str, seconds: float
) -> None:
    fake, api = server

    async def busy(_: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": header})

    fake.handler = busy
    with pytest.raises(ApiError) as caught:
        await api.create("/api/v1/namespaces/alice/pods/web/binding", {})
    assert caught.value.retry_after == seconds


async def test_errors_carry_reason_and_message(server: tuple[Server, Api]) -> None:
    fake, api = server

    async def forbidden(_: web.Request) -> web.StreamResponse:
        body = {"kind": "Status", "reason": "Forbidden", "message": "bob may not"}
        return web.json_response(body, status=403)

    fake.handler = forbidden
    with pytest.raises(ApiError) as caught:
        await api.get("/api/v1/namespaces/alice/pods/web")
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
    assert caught.value.message == "bob may not"


async def test_delete_names_the_uid(server: tuple[Server, Api]) -> None:
    fake, api = server

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Status"})

    fake.handler = answer
    await api.delete("/api/v1/namespaces/alice/pods/web", uid="u-1", grace_seconds=0)
    assert fake.bodies[0]["preconditions"] == {"uid": "u-1"}
    assert fake.bodies[0]["gracePeriodSeconds"] == 0


async def test_patch_says_which_kind_of_patch(server: tuple[Server, Api]) -> None:
    fake, api = server

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Pod"})

    fake.handler = answer
    await api.patch("/a", {"status": {}}, content_type=kube.STRATEGIC)
    await api.patch("/a", [{"op": "test"}], content_type=kube.JSON_PATCH)
    types = [request.headers["Content-Type"] for request in fake.asked]
    assert types == [kube.STRATEGIC, kube.JSON_PATCH]
    assert fake.bodies[1] == [{"op": "test"}]


def event(kind: str, **metadata: str) -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": metadata}}).encode() + b"\n"


async def test_watch_yields_events_however_they_are_cut(server: tuple[Server, Api]) -> None:
    fake, api = server
    big = event("MODIFIED", name="big", filler="x" * 1_200_000)

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        data = event("ADDED", name="a") + big + event("BOOKMARK", name="b")
        for start in range(0, len(data), 70_001):
            await response.write(data[start : start + 70_001])
        return response

    fake.handler = stream
    names = [e["object"]["metadata"]["name"] async for e in api.watch("/w", {})]
    assert names == ["a", "big", "b"]
    assert fake.asked[0].query["allowWatchBookmarks"] == "true"


async def test_watch_reports_an_expired_version(server: tuple[Server, Api]) -> None:
    fake, api = server

    async def expired(_: web.Request) -> web.StreamResponse:
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
        return web.json_response({"type": "ERROR", "object": status})

    fake.handler = expired
    with pytest.raises(ApiError) as caught:
        async for _ in api.watch("/w", {"resourceVersion": "1"}):
            pass
    assert caught.value.status == 410


NESTED = b"[" * 200_000


@pytest.mark.claim("K54")
@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"ERROR","object":null}',
        b'{"type":"ERROR","object":"gone"}',
        b'{"type":"ERROR","object":{"code":null}}',
        b'{"type":"ERROR","object":{"code":"Gone"}}',
        b'{"type":"ADDED","object":[]}',
        b'{"type":"ADDED"}',
        b"[]",
        NESTED,
    ],
    ids=lambda line: line[:50].decode(),
)
async def test_a_line_that_is_no_event_ends_the_watch(
    server: tuple[Server, Api], line: bytes
) -> None:
    fake, api = server

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=line + b"\n")

    fake.handler = answer
    with pytest.raises((UnreachableError, ApiError)):
        async for _ in api.watch("/w", {}):
            pass


@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_that_is_nested_too_deeply_is_none(
    server: tuple[Server, Api], status: int
) -> None:
    fake, api = server

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=NESTED, status=status)

    fake.handler = answer
    with pytest.raises((UnreachableError, ApiError)):
        await api.get("/api/v1/namespaces/alice/pods/web")


async def test_a_silent_watch_ends(
    server: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, api = server
    monkeypatch.setattr(kube, "WATCH_SILENCE_SECONDS", 0.2)
    done = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await done.wait()
        return response

    fake.handler = silent
    with pytest.raises(UnreachableError) as caught:
        async for _ in api.watch("/w", {}):
            pass
    assert caught.value.silent
    done.set()


@pytest.mark.claim("K57")
async def test_a_request_does_not_wait_behind_watches(server: tuple[Server, Api]) -> None:
    fake, api = server
    done, open_watches, all_open = asyncio.Event(), 0, asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal open_watches
        if "watch" not in request.query:
            return web.json_response({})
        response = web.StreamResponse()
        await response.prepare(request)
        open_watches += 1
        if open_watches == WATCHES:
            all_open.set()
        await done.wait()
        return response

    async def watch() -> None:
        async for _ in api.watch("/w", {}):
            pass

    fake.handler = answer
    watches = [asyncio.create_task(watch()) for _ in range(WATCHES)]
    await asyncio.wait_for(all_open.wait(), 10)
    await asyncio.wait_for(api.get("/lease"), 5)
    done.set()
    await asyncio.wait_for(asyncio.gather(*watches), 10)


async def test_a_peer_that_is_gone_without_a_word_is_missed(
    server: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, api = server
    options: list[int] = []

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({})

    def made(address: Any) -> socket.socket:
        found = genuine(address)
        options.extend(
            found.getsockopt(level, name)
            for level, name in (
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            )
        )
        return found

    genuine = kube._socket
    monkeypatch.setattr(kube, "_socket", made)
    fake.handler = answer
    await api.get("/healthz")
    assert options == [1, 15, 30_000]


async def test_nobody_listening_is_unreachable() -> None:
    async with Api(Configuration(host="http://127.0.0.1:1")) as api:
        with pytest.raises(UnreachableError) as caught:
            await api.get("/healthz")
    assert not caught.value.sent
    assert not caught.value.silent
