"""What of a CRI log file a request asks for. Pure; the bytes come from wherever they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from slurmlet.contracts.crilog import LogLine, format_time, parse_line

MAX_LINE = 64 * 1024
"""Bytes kept of a line without end: above what any writer of this format puts into one."""


class OptionError(ValueError):
    """A query parameter that cannot be used; the message is for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Of a log request. `since` is in the format of the log's own times; lines and bytes count."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: str | None = None
    limit_bytes: int | None = None


def read_options(query: Mapping[str, str], *, now_ns: int) -> LogOptions:
    """The options of a request's query.

    Raises:
        OptionError: a value that is no boolean, number or time.
    """
    if query.get("sinceSeconds") and query.get("sinceTime"):
        raise OptionError("at most one of sinceTime and sinceSeconds may be specified")
    seconds = _number(query, "sinceSeconds", least=1)
    since = format_time(max(now_ns - seconds * 10**9, 0)) if seconds else None
    if query.get("sinceTime"):
        since = _moment(query["sinceTime"])
    return LogOptions(
        follow=_flag(query, "follow"),
        previous=_flag(query, "previous"),
        timestamps=_flag(query, "timestamps"),
        tail_lines=_number(query, "tailLines", least=0),
        since=since,
        limit_bytes=_number(query, "limitBytes", least=1),
    )


class LogFilter:
    """Turns CRI lines into what the client sees, in order, until `done`."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._left = options.limit_bytes
        self._at_start = True
        self._rest = b""
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for more of the file; a line may be split between two calls."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:MAX_LINE]
        return b"".join(self._shown(line) for line in lines)

    def _shown(self, raw: bytes) -> bytes:
        line = parse_line(raw)
        if line is None or self.done:
            return b""
        if self._options.since and line.time < self._options.since:
            return b""
        text = self._stamped(line)
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
            self.done = self._left <= 0
        return text

    def _stamped(self, line: LogLine) -> bytes:
        # Only the first part of a line that was cut in pieces begins with its time.
        stamp = f"{line.time} ".encode() if self._options.timestamps and self._at_start else b""
        self._at_start = line.text.endswith(b"\n")
        return stamp + line.text


class TailSearch:
    """Finds where the last lines of a file begin, from blocks that are read backwards."""

    def __init__(self, *, size: int, lines: int) -> None:
        self._lines = lines
        self._size = self._end = size
        self._seen = 0
        self.offset: int | None = size if lines == 0 or size == 0 else None

    def block(self, limit: int) -> tuple[int, int]:
        """Offset and length of the next block to read."""
        start = max(0, self._end - limit)
        return start, self._end - start

    def feed(self, start: int, data: bytes) -> None:
        """Take a block; `offset` is set once the beginning is known."""
        at = len(data)
        # The newline that ends the file begins no line.
        if start + len(data) == self._size and data.endswith(b"\n"):
            at -= 1
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            self._seen += 1
            if self._seen == self._lines:
                self.offset = start + at + 1
                return
        self._end = start
        if start == 0:
            self.offset = 0


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "")
    if value.lower() in ("", "0", "f", "false"):
        return False
    if value.lower() in ("1", "t", "true"):
        return True
    raise OptionError(f"{name}: {value[:40]!r} is neither true nor false")


def _number(query: Mapping[str, str], name: str, *, least: int) -> int | None:
    value = query.get(name)
    if not value:
        return None
    if not value.isascii() or not value.isdecimal() or len(value) > 18 or int(value) < least:
        raise OptionError(f"{name}: {value[:40]!r} is not a number of at least {least}")
    return int(value)


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise OptionError(f"sinceTime: {text[:40]!r} is not a time in RFC 3339") from None
    if moment.tzinfo is None:
        raise OptionError(f"sinceTime: {text[:40]!r} names no time zone")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return format_time(max(delta // timedelta(microseconds=1) * 1000, 0))
