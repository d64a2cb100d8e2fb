"""The supervisor's log: the job's output, a file on a shared file system.

What an exception says may quote the plan, and so a Secret. Only its type is written down, and the
places that it came by.
"""

import asyncio
import logging
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

LOG = logging.getLogger("slurmlet.supervisor")
_CHAIN = 5
"""Causes of an exception that are named."""


class Formatter(logging.Formatter):
    def formatException(  # noqa: N802  # as logging calls it
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        return "\n".join(_told(ei[1])) if ei[1] else ""


def configure() -> None:
    """Set the process's logging up."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def forgotten(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's handler of errors that nobody awaits; its own shows the task's result."""
    error = context.get("exception")
    known = (type(error), error, error.__traceback__) if isinstance(error, Exception) else None
    LOG.error("%s", context.get("message"), exc_info=known)


def _told(error: BaseException | None) -> Iterator[str]:
    for _ in range(_CHAIN):
        if error is None:
            return
        for frame in traceback.extract_tb(error.__traceback__):
            yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
        yield type(error).__name__
        error = error.__cause__ or error.__context__
