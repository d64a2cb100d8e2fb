"""Termination messages: what a container leaves for its status."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from slurmlet.contracts.crilog import MAX_PART, parse_line
from slurmlet.supervisor.logs import LogText, tail_start

DEFAULT_PATH = "/dev/termination-log"
MAX_MESSAGE = 4096
_MAX_FALLBACK = 2048
_FALLBACK_LINES = 80
"""Bytes of a message, bytes and lines of a log that stands in for one: kubelet's bounds."""
_STAMP = 64
"""Bytes of time, stream and tag before a line's text, at most."""


def message_path(container: Mapping[str, Any]) -> str:
    """Where the container writes its message."""
    return container.get("terminationMessagePath") or DEFAULT_PATH


def make_message_file(path: Path) -> None:
    """An empty file that any user of the container may write."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.touch()
    path.chmod(0o666)


def read_message(container: Mapping[str, Any], *, file: Path, log: LogText, failed: bool) -> str:
    """The container's message, or the end of its log if it failed and asked for that."""
    text = b""
    # A container may have replaced what it writes by anything: no links, no FIFOs.
    with suppress(OSError):
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            text = opened.read(MAX_MESSAGE)
    if not text and failed and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        text = log_end(log)
    return text.decode(errors="replace")


def log_end(text: LogText) -> bytes:
    """The last lines of a log."""
    generation, offset = tail_start(text, _FALLBACK_LINES)
    # 80 lines are at most so much: each was cut at MAX_PART.
    limit = _FALLBACK_LINES * (MAX_PART + _STAMP)
    raw = b"".join(
        text.read(each, offset if each == generation else 0, limit)
        for each in range(generation, text.newest + 1)
    )
    parsed = [parse_line(line) for line in raw.split(b"\n")]
    return b"".join(line.text for line in parsed if line)[-_MAX_FALLBACK:]
