"""One line per fact on standard error, where journald adds time and unit."""

import logging
import re
import sys

_MAX_LINE = 4096
"""Characters: journald makes two lines of what is longer than 48 KiB, and peers write sentences."""
_MAX_LINES = 200
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class Formatter(logging.Formatter):
    """Only what we write begins a line: a peer's words may hold newlines, a traceback does."""

    def format(self, record: logging.LogRecord) -> str:
        lines = _CONTROL.sub("\ufffd", super().format(record)).split("\n")
        return "\n  ".join(line[:_MAX_LINE] for line in lines[:_MAX_LINES])


def configure(*, level: str = "INFO") -> None:
    """Set the process's logging up. Lines begin with the object they are about (`ns/pod`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
