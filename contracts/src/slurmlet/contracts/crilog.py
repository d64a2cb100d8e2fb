"""Log lines in CRI format: `TIME STREAM TAG TEXT`, TIME in RFC 3339 with nanoseconds, TAG F for a
full line and P for a part of one."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

MAX_PART = 16 * 1024
"""Bytes of text in one line, as kubelet's runtimes cut them."""

Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """`text` has its newline when the line is full."""

    time: str
    stream: str
    text: bytes


def format_time(nanoseconds: int) -> str:
    """RFC 3339 with nine fractional digits of nanoseconds since the epoch."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def format_line(*, nanoseconds: int, stream: Stream, text: bytes, full: bool) -> bytes:
    """One line of a log file; `text` holds no newline."""
    tag = "F" if full else "P"
    return f"{format_time(nanoseconds)} {stream} {tag} ".encode() + text + b"\n"


def parse_line(line: bytes) -> LogLine | None:
    """The parsed line (with or without its newline), or None for what is not in CRI format."""
    parts = line.rstrip(b"\n").split(b" ", 3)
    if len(parts) != 4 or parts[1] not in (b"stdout", b"stderr") or parts[2] not in (b"F", b"P"):
        return None
    return LogLine(
        time=parts[0].decode("ascii", "replace"),
        stream=parts[1].decode(),
        text=parts[3] + (b"\n" if parts[2] == b"F" else b""),
    )
