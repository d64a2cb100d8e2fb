"""Containers' output: from two pipes to a file of CRI lines, with followers woken by each write."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slurmlet.contracts.crilog import MAX_PART, Stream, format_line
from slurmlet.contracts.names import LOG_PARTS, log_part
from slurmlet.supervisor.process import pieces

_TAIL_BLOCK = 64 * 1024


class LogText:
    """The files of one start's log as one text. A file is known by its generation, which counts
    from 0; `newest` grows with each rotation. A file is opened for each read: a reader that stands
    still keeps nothing of what was removed since."""

    def __init__(self, path: Path, *, newest: int) -> None:
        self.path = path
        self.newest = newest

    @classmethod
    def stored(cls, path: Path) -> "LogText":
        """A log that is not written any more.

        Raises:
            OSError: there is none.
        """
        path.lstat()
        ages = [age for age in range(LOG_PARTS) if _part(path, age).exists()]
        return cls(path, newest=max(ages, default=0))

    @property
    def oldest(self) -> int:
        return max(0, self.newest - LOG_PARTS + 1)

    def size(self, generation: int) -> int:
        """Bytes of a file, 0 of one that is not there."""
        try:
            return self._file(generation).lstat().st_size
        except OSError:
            return 0

    def read(self, generation: int, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes of a file, nothing of one that is not there."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(self._file(generation), flags)
        except OSError:
            return b""
        try:
            return os.pread(descriptor, limit, offset)
        except OSError:
            return b""
        finally:
            os.close(descriptor)

    def _file(self, generation: int) -> Path:
        return _part(self.path, self.newest - generation)


class LogFile:
    """The log of one container start, in at most LOG_PARTS files that hold at most `limit` bytes
    together; what is older is removed."""

    def __init__(self, path: Path, *, limit: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self.text = LogText(path, newest=0)
        self.finished = False
        self._limit = limit // LOG_PARTS
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
            while data:
                if self._file < 0:
                    self._open()
                room = self._limit - self._size
                fitting = len(data) if len(data) <= room else data.rfind(b"\n", 0, max(room, 0)) + 1
                if not fitting and self._size:
                    self._rotate()
                    continue
                # A line that is longer than a file is written nevertheless.
                fitting = fitting or data.find(b"\n") + 1 or len(data)
                self._append(memoryview(data)[:fitting])
                data = data[fitting:]
        self._wake()

    def _append(self, view: memoryview) -> None:
        while view:
            written = os.write(self._file, view)
            self._size += written
            view = view[written:]

    def _rotate(self) -> None:
        """Make the file one older. Where a file cannot be renamed, its content goes."""
        self._close()
        for age in range(LOG_PARTS - 1, 0, -1):
            with suppress(OSError):
                _part(self.path, age - 1).rename(_part(self.path, age))
        self.text.newest += 1
        self._open()

    def _close(self) -> None:
        # Forgotten first: its number may soon be another file's.
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def finish(self) -> None:
        """No more will be written."""
        self.finished = True
        self._close()
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


def remove_log(path: Path) -> None:
    """Remove all files of a log.

    Raises:
        OSError: one cannot be removed.
    """
    for age in range(LOG_PARTS):
        _part(path, age).unlink(missing_ok=True)


def _part(path: Path, age: int) -> Path:
    return path.with_name(log_part(path.name, age))


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


def tail_start(text: LogText, lines: int) -> tuple[int, int]:
    """Where the last `lines` lines of a log begin: generation and offset. An unfinished line at
    the end counts."""
    end = text.size(text.newest)
    if lines == 0:
        return text.newest, end
    left = lines
    # The newline at the very end ends the last line and begins no other.
    at_end = True
    for generation in range(text.newest, text.oldest - 1, -1):
        end = text.size(generation)
        while end > 0:
            start = max(0, end - _TAIL_BLOCK)
            block = text.read(generation, start, end - start)
            index = len(block) - 1 if at_end and block.endswith(b"\n") else len(block)
            at_end = False
            while (index := block.rfind(b"\n", 0, index)) >= 0:
                left -= 1
                if not left:
                    return generation, start + index + 1
            end = start
    return text.oldest, 0
