"""Streams that the agent asks for: the supervisor dials back, one WebSocket each."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from slurmlet.contracts.names import log_file
from slurmlet.contracts.podproto import STREAM_PATH, OpenStream, StreamFailed
from slurmlet.supervisor.config import Job
from slurmlet.supervisor.logs import LogFile, LogText, tail_start
from slurmlet.supervisor.websocket import ChannelError, WebSocket, connect

MAX_STREAMS = 32
"""Streams at a time: each is a connection and a task of the pod's own job."""
_BLOCK = 64 * 1024
_MAX_MESSAGE = 64 * 1024


class StreamError(Exception):
    """A stream that cannot be opened; the message is for the user."""


class Streams:
    """Opens streams; `log` yields the newest log of a container, `logs` is their directory."""

    def __init__(
        self,
        job: Job,
        *,
        tls: ssl.SSLContext,
        logs: Path,
        log: Callable[[str], LogFile | None],
        tell: Callable[[StreamFailed], None],
    ) -> None:
        self._job = job
        self._tls = tls
        self._logs = logs
        self._log = log
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, request: OpenStream) -> None:
        """Serve a request in a task of its own."""
        if len(self._tasks) >= MAX_STREAMS:
            self._tell(StreamFailed(id=request.id, message=f"{MAX_STREAMS} streams are open"))
            return
        task = asyncio.create_task(self._serve(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give open streams their last lines, then end them."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=5.0)
            for task in late:
                task.cancel()

    async def _serve(self, request: OpenStream) -> None:
        try:
            if request.kind != "logs":
                raise StreamError(f"streams of kind {request.kind[:40]!r} are not supported")
            log, text = self._find(request)
        except StreamError as error:
            self._tell(StreamFailed(id=request.id, message=str(error)))
            return
        try:
            socket = await connect(
                host=self._job.agent_host,
                port=self._job.agent_port,
                path=STREAM_PATH.format(id=request.id),
                headers={"Authorization": f"Bearer {self._job.token}"},
                tls=self._tls,
                max_message=_MAX_MESSAGE,
            )
        except ChannelError as error:
            self._tell(StreamFailed(id=request.id, message=str(error)))
            return
        sending = asyncio.create_task(send_log(socket, text, log=log, request=request))
        gone = asyncio.create_task(_until_closed(socket))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
            await socket.close()

    def _find(self, request: OpenStream) -> tuple[LogFile | None, LogText]:
        newest = self._log(request.container)
        if newest is None:
            raise StreamError(f'container "{request.container}" has not started yet')
        path = newest.path
        if request.restart_count is not None:
            path = self._logs / log_file(request.container, request.restart_count)
        if path == newest.path:
            return newest, newest.text
        try:
            return None, LogText.stored(path)
        except OSError:
            raise StreamError(
                f'container "{request.container}" has no log of start {request.restart_count}'
            ) from None


async def _until_closed(socket: WebSocket) -> None:
    """Return when the peer closes or is lost."""
    try:
        while await socket.receive() is not None:
            pass
    except ChannelError:
        return


async def send_log(
    socket: WebSocket, text: LogText, *, log: LogFile | None, request: OpenStream
) -> None:
    """Send whole lines until the end of the log, or without `follow` to where it ends now; `log`
    is None when it is not written any more."""
    following = log if log and request.follow else None
    grown = following.subscribe() if following else None
    place = text.oldest, 0
    try:
        if request.tail_lines is not None:
            place = tail_start(text, request.tail_lines)
        end = None if following else (text.newest, text.size(text.newest))
        while True:
            finished = following is None or following.finished
            if grown:
                grown.clear()
            place = await _send_from(socket, text, place, end=end)
            if finished or grown is None:
                return
            await grown.wait()
    except ChannelError:
        return
    finally:
        if following and grown:
            following.unsubscribe(grown)


async def _send_from(
    socket: WebSocket, text: LogText, place: tuple[int, int], *, end: tuple[int, int] | None
) -> tuple[int, int]:
    """Send what there is from a place on, but not from beyond `end`; the place where it ended."""
    generation, offset = place
    rest = b""
    while end is None or (generation, offset) < end:
        block = text.read(generation, offset, _BLOCK)
        offset += len(block)
        lines, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            await socket.send(lines + newline)
        if not block and generation >= text.newest:
            break
        if not block:
            # It was rotated and has been read to its end, or was removed before.
            generation, offset, rest = max(generation + 1, text.oldest), 0, b""
    # Lines are written whole, so an unfinished one is finished soon.
    return generation, offset - len(rest)
