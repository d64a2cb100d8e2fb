"""One line per fact on standard error, where journald adds time and unit."""

import logging
import sys


def configure(*, level: str = "INFO") -> None:
    """Set the process's logging up. Lines begin with the object they are about (`ns/pod`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
