"""Streams that the agent asks for: the supervisor dials back, one WebSocket each."""

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

from slurmlet.contracts.names import log_file
from slurmlet.contracts.podproto import STREAM_PATH, OpenStream, StreamFailed
from slurmlet.supervisor.config import Job
from slurmlet.supervisor.logs import LogFile, tail_offset
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
            log, descriptor = self._find(request)
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
            os.close(descriptor)
            self._tell(StreamFailed(id=request.id, message=str(error)))
            return
        sending = asyncio.create_task(send_log(socket, descriptor, log=log, request=request))
        gone = asyncio.create_task(_until_closed(socket))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
            await socket.close()

    def _find(self, request: OpenStream) -> tuple[LogFile | None, int]:
        newest = self._log(request.container)
        if newest is None:
            raise StreamError(f'container "{request.container}" has not started yet')
        path = newest.path
        if request.restart_count is not None:
            path = self._logs / log_file(request.container, request.restart_count)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            raise StreamError(
                f'container "{request.container}" has no log of start {request.restart_count}'
            ) from None
        return (newest if path == newest.path else None), descriptor


async def _until_closed(socket: WebSocket) -> None:
    """Return when the peer closes or is lost."""
    try:
        while await socket.receive() is not None:
            pass
    except ChannelError:
        return


async def send_log(
    socket: WebSocket, descriptor: int, *, log: LogFile | None, request: OpenStream
) -> None:
    """Send whole lines until the end of the log; `log` is None when it is not written any more.

    Closes the descriptor.
    """
    grown = log.subscribe() if log and request.follow else None
    try:
        offset = (
            tail_offset(descriptor, request.tail_lines) if request.tail_lines is not None else 0
        )
        while True:
            finished = log is None or log.finished or grown is None
            if grown:
                grown.clear()
            offset = await _send_from(socket, descriptor, offset)
            rotated = _rotated(descriptor, log)
            if rotated is not None:
                os.close(descriptor)
                descriptor, offset = rotated, 0
                continue
            if finished:
                return
            if grown:
                await grown.wait()
    except ChannelError:
        return
    finally:
        os.close(descriptor)
        if log and grown:
            log.unsubscribe(grown)


async def _send_from(socket: WebSocket, descriptor: int, offset: int) -> int:
    rest = b""
    while block := os.pread(descriptor, _BLOCK, offset):
        offset += len(block)
        lines, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            await socket.send(lines + newline)
    # Lines are written whole, so an unfinished one is finished soon.
    return offset - len(rest)


def _rotated(descriptor: int, log: LogFile | None) -> int | None:
    """The file that has taken this one's place, if any."""
    if log is None:
        return None
    try:
        following = os.open(log.path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    if os.path.sameopenfile(descriptor, following):
        os.close(following)
        return None
    return following
