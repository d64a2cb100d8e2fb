"""Containers' output: from two pipes to a file of CRI lines, with followers woken by each write."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slurmlet.contracts.crilog import MAX_PART, Stream, format_line
from slurmlet.supervisor.process import pieces

_TAIL_BLOCK = 64 * 1024


class LogFile:
    """The log of one container start. When it reaches `limit` bytes it becomes PATH.1 and a new
    one begins, so that a container leaves at most twice that."""

    def __init__(self, path: Path, *, limit: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self.finished = False
        self._limit = limit
        self._size = 0
        self._file = -1
        self._followers: set[asyncio.Event] = set()
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW
        self._file = os.open(self.path, flags, 0o600)
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append whole lines. What cannot be written (quota, full disk) is dropped: the container
        must not hang for it."""
        with suppress(OSError):
            if self._size and self._size + len(data) > self._limit:
                os.close(self._file)
                self.path.rename(self.path.with_name(f"{self.path.name}.1"))
                self._open()
            view = memoryview(data)
            while view:
                written = os.write(self._file, view)
                self._size += written
                view = view[written:]
        self._wake()

    def finish(self) -> None:
        """No more will be written."""
        self.finished = True
        with suppress(OSError):
            os.close(self._file)
        self._wake()

    def _wake(self) -> None:
        for event in self._followers:
            event.set()

    def subscribe(self) -> asyncio.Event:
        """An event that is set by each write and at the end."""
        event = asyncio.Event()
        self._followers.add(event)
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        self._followers.discard(event)


class Splitter:
    """Cuts a stream of bytes into lines of the CRI format."""

    def __init__(self, stream: Stream, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._stream = stream
        self._clock = clock
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The lines that are complete with `data`, and full parts of those that are not."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        output = [self._line(line) for line in lines]
        while len(self._rest) >= MAX_PART:
            output.append(self._format(self._rest[:MAX_PART], full=False))
            self._rest = self._rest[MAX_PART:]
        return b"".join(output)

    def end(self) -> bytes:
        """What was left without a newline, as a part."""
        rest, self._rest = self._rest, b""
        return self._format(rest, full=False) if rest else b""

    def _line(self, line: bytes) -> bytes:
        parts = [line[start : start + MAX_PART] for start in range(0, len(line), MAX_PART)] or [b""]
        *heads, last = parts
        return b"".join(self._format(part, full=False) for part in heads) + self._format(
            last, full=True
        )

    def _format(self, text: bytes, *, full: bool) -> bytes:
        return format_line(nanoseconds=self._clock(), stream=self._stream, text=text, full=full)


async def copy_output(descriptor: int, stream: Stream, log: LogFile) -> None:
    """Copy a container's output into its log until the pipe's end; closes the descriptor."""
    splitter = Splitter(stream)
    async for piece in pieces(descriptor):
        lines = splitter.feed(piece)
        if lines:
            log.write(lines)
    rest = splitter.end()
    if rest:
        log.write(rest)


def tail_offset(descriptor: int, lines: int) -> int:
    """Where the last `lines` lines of a file begin; an unfinished line at its end counts."""
    position = os.fstat(descriptor).st_size
    # The newline at the end of the file ends the last line and begins no other.
    wanted = lines + 1
    end = position
    while position > 0:
        start = max(0, position - _TAIL_BLOCK)
        block = os.pread(descriptor, position - start, start)
        if position == end and not block.endswith(b"\n"):
            wanted -= 1
        index = len(block)
        while wanted:
            index = block.rfind(b"\n", 0, index)
            if index < 0:
                break
            wanted -= 1
        if not wanted:
            return start + index + 1
        position = start
    return 0
