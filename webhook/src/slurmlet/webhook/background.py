"""What is done beside the requests, in threads of the worker."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def repeat(action: Callable[[], None], *, seconds: float, stop: threading.Event) -> None:
    """Call `action` at once, and from then on in a thread until `stop`, with pauses of so many
    seconds. What it raises is logged, and it is called again: a thread that had ended would leave
    the webhook working with what it once knew, and nobody would notice."""
    _attempt(action)
    name = getattr(action, "__qualname__", "background")
    threading.Thread(target=_loop, args=(action, seconds, stop), name=name, daemon=True).start()


def _loop(action: Callable[[], None], seconds: float, stop: threading.Event) -> None:
    while not stop.wait(seconds):
        _attempt(action)


def _attempt(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception:
        log.exception("%s failed and is tried again", getattr(action, "__qualname__", action))
