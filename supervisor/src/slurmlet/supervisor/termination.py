"""Termination messages: what a container leaves for its status."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from slurmlet.contracts.crilog import parse_line
from slurmlet.supervisor.logs import tail_offset

DEFAULT_PATH = "/dev/termination-log"
MAX_MESSAGE = 4096
_MAX_FALLBACK = 2048
_FALLBACK_LINES = 80
"""Bytes of a message, bytes and lines of a log that stands in for one: kubelet's bounds."""


def message_path(container: Mapping[str, Any]) -> str:
    """Where the container writes its message."""
    return container.get("terminationMessagePath") or DEFAULT_PATH


def make_message_file(path: Path) -> None:
    """An empty file that any user of the container may write."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.touch()
    path.chmod(0o666)


def read_message(container: Mapping[str, Any], *, file: Path, log: Path, failed: bool) -> str:
    """The container's message, or the end of its log if it failed and asked for that."""
    text = b""
    # A container may have replaced what it writes by anything: no links, no FIFOs.
    with suppress(OSError):
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            text = opened.read(MAX_MESSAGE)
    if not text and failed and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        text = _log_end(log)
    return text.decode(errors="replace")


def _log_end(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(tail_offset(descriptor, _FALLBACK_LINES))
        parsed = [parse_line(line) for line in file]
    return b"".join(line.text for line in parsed if line)[-_MAX_FALLBACK:]
