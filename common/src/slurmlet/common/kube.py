"""The only door to the API server: raw dicts over the transport of the official client.

Typed models cost ten times the time and memory of plain dicts and drop fields that they do not
know, so none is used; see docs/architecture.md, Decisions.
"""

import errno
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import load_kube_config

Object = dict[str, Any]

REQUEST_SECONDS = 30
"""Bound on one request: the API server itself gives up on most after 60 s, webhooks after 30 s."""
WATCH_SILENCE_SECONDS = 90
"""A watch that is silent for longer is dead: bookmarks come about once a minute."""
KEEPALIVE_SECONDS = 15
"""Between probes of an idle connection, of which three must fail; and twice this is how long sent
bytes may stay unacknowledged. So packets that are dropped end a connection within a minute."""
RETRY_AFTER_SECONDS = 60.0
"""The longest time to wait that an answer may ask for."""
MAX_EVENT = 16 * 1024 * 1024
"""Bytes of one watch event: etcd refuses objects above 1.5 MiB, so this is far out of reach."""
PAGE = 500

_NOT_JSON = (ValueError, RecursionError)
"""What parsing raises of what is no JSON, or of JSON that is nested too deeply to be anybody's."""

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


Trim = Callable[[Object], Object]
"""What is kept of an object."""


class ApiError(Exception):
    """The API server's refusal: `status` is the HTTP code, `reason` Kubernetes' word for it.

    `retry_after` is for how many seconds it wants to be left alone, if it says so.
    """

    def __init__(self, *, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class UnreachableError(Exception):
    """No answer, or none that can be read: nothing is known about what was asked.

    `sent` is False where nothing was: there was no connection. `silent` is True where an answer was
    waited for until a limit.
    """

    def __init__(self, message: str, *, sent: bool = True, silent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.silent = silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where the API server is and who asks: `server` is a URL, the others are PEM files."""

    server: str
    ca_file: str
    cert_file: str
    key_file: str


class Api:
    """A connection pool to one API server. Use it as an async context manager.

    `watch_silence` is after how many seconds without a word a watch counts as dead.
    """

    def __init__(self, configuration: Configuration, *, watch_silence: float | None = None) -> None:
        # A proxy from the environment is never meant for the cluster's own API server.
        configuration.client_session_kwargs = {"trust_env": False}
        self._client = ApiClient(configuration)
        self._client.rest_client = _Transport(configuration)
        self._watch_silence = watch_silence

    @classmethod
    def from_credentials(
        cls, credentials: Credentials, *, watch_silence: float | None = None
    ) -> "Api":
        configuration = Configuration(host=credentials.server, ssl_ca_cert=credentials.ca_file)
        configuration.cert_file = credentials.cert_file
        configuration.key_file = credentials.key_file
        return cls(configuration, watch_silence=watch_silence)

    @classmethod
    async def from_kubeconfig(cls, path: str, *, watch_silence: float | None = None) -> "Api":
        configuration = Configuration()
        await load_kube_config(config_file=path, client_configuration=configuration)
        return cls(configuration, watch_silence=watch_silence)

    async def __aenter__(self) -> "Api":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.close()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Object:
        """Raises ApiError or UnreachableError, as do all methods here."""
        return await self._request("GET", path, params=params)

    async def list(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        trim: Trim | None = None,
    ) -> tuple[list[Object], str]:
        """All items of a collection, and its resourceVersion. It is read page by page, and of each
        page what `trim` keeps, so that the collection is never in memory untrimmed."""
        items: list[Object] = []
        query = {**(params or {}), "limit": str(PAGE)}
        while True:
            page = await self._request("GET", path, params=query)
            found, metadata = _page(page, path)
            items += [trim(item) for item in found] if trim else found
            if not metadata.get("continue"):
                return items, str(metadata["resourceVersion"])
            query["continue"] = metadata["continue"]

    async def create(self, path: str, body: Object) -> Object:
        return await self._request("POST", path, body=body)

    async def patch(self, path: str, body: object, *, content_type: str = MERGE) -> Object:
        return await self._request("PATCH", path, body=body, content_type=content_type)

    async def replace(self, path: str, body: Object) -> Object:
        return await self._request("PUT", path, body=body)

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> Object:
        """Delete the object of this UID and no other of the same name."""
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        return await self._request("DELETE", path, body=body)

    async def watch(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Object]:
        """The events of a watch until the server ends it; ERROR events raise ApiError."""
        silence = self._watch_silence or WATCH_SILENCE_SECONDS
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=silence)
        query = {**params, "watch": "true", "allowWatchBookmarks": "true"}
        response = await self._send("GET", path, params=query, timeout=timeout)
        buffer = bytearray()
        try:
            if response.status != 200:
                raise _error(response, await response.read())
            async for chunk in response.content.iter_any():
                buffer += chunk
                while (end := buffer.find(b"\n")) >= 0:
                    line, buffer = bytes(buffer[:end]), buffer[end + 1 :]
                    yield _event(line)
                if len(buffer) > MAX_EVENT:
                    raise UnreachableError(f"watch {path}: event of more than {MAX_EVENT} bytes")
            if buffer.strip():
                yield _event(bytes(buffer))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(f"watch {path}", error) from None
        finally:
            response.close()

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        response = await self._send(
            method, path, params=params, body=body, content_type=content_type, timeout=timeout
        )
        try:
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(f"{method} {path}", error) from None
        # What is read is there, and whole, with this status only.
        if response.status >= 300 or (method == "GET" and response.status != 200):
            raise _error(response, data)
        try:
            answer = json.loads(data)
        except _NOT_JSON:
            raise UnreachableError(f"{method} {path}: the answer is not JSON") from None
        if not isinstance(answer, dict):
            raise UnreachableError(f"{method} {path}: the answer is no object")
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None,
        timeout: aiohttp.ClientTimeout,
        body: object = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list((params or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self._client.rest_client.request(
                request[0],
                request[1],
                headers=request[2],
                body=request[3],
                _request_timeout=timeout,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(f"{method} {path}", error) from None
        response: aiohttp.ClientResponse = answer.response
        return response


class _Transport(RESTClientObject):
    """The client's transport, with connections of ours."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        # No limit: a watch keeps its connection, and requests would wait behind hundreds of them.
        # Who calls bounds what is under way.
        return aiohttp.TCPConnector(limit=0, ssl=self.ssl_context, socket_factory=_socket)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose peer is missed when packets to it are dropped (tcp(7))."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2 * KEEPALIVE_SECONDS * 1000)
    return made


def _page(page: Object, path: str) -> tuple[list[Object], Object]:
    """Items and metadata of what must be a list: anything else would say that all is gone."""
    kind, items, metadata = page.get("kind"), page.get("items", ()), page.get("metadata")
    if not str(kind or "").endswith("List"):
        raise UnreachableError(f"GET {path}: answered a {kind}, not a list")
    # Of no items Go writes null; it always writes the field.
    if items is None:
        items = []
    if not isinstance(items, list) or not isinstance(metadata, dict):
        raise UnreachableError(f"GET {path}: a {kind} without items or metadata")
    if not metadata.get("resourceVersion"):
        raise UnreachableError(f"GET {path}: a {kind} without a resourceVersion")
    return items, metadata


def _event(line: bytes) -> Object:
    try:
        event: Object = json.loads(line)
        kind, body = event["type"], event["object"]
    except (*_NOT_JSON, KeyError, TypeError):
        raise UnreachableError("watch: a line that is no event") from None
    if not isinstance(body, dict):
        raise UnreachableError("watch: an event about no object")
    if kind == "ERROR":
        code = body.get("code")
        raise ApiError(
            status=code if isinstance(code, int) else 500,
            reason=str(body.get("reason", "")),
            message=str(body.get("message", "")),
        )
    return event


def _error(response: aiohttp.ClientResponse, data: bytes) -> ApiError:
    status, retry_after = response.status, _retry_after(response.headers.get("Retry-After", ""))
    try:
        body = json.loads(data)
        reason, message = str(body.get("reason", "")), str(body.get("message", ""))
    except (*_NOT_JSON, AttributeError):
        reason, message = "", data[:200].decode(errors="replace")
    return ApiError(status=status, reason=reason, message=message, retry_after=retry_after)


def _retry_after(header: str) -> float:
    """Seconds; the API server never sends the header's other form, a date."""
    return min(float(header), RETRY_AFTER_SECONDS) if header.isascii() and header.isdigit() else 0.0


def _unreachable(what: str, error: Exception) -> UnreachableError:
    # ETIMEDOUT comes from the kernel's probes of an idle connection.
    silent = isinstance(error, TimeoutError) or getattr(error, "errno", 0) == errno.ETIMEDOUT
    sent = not isinstance(error, aiohttp.ClientConnectorError)
    return UnreachableError(f"{what}: {error or type(error).__name__}", sent=sent, silent=silent)
