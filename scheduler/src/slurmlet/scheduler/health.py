"""Whether the scheduler hears of pods and nodes. Pure."""

from collections.abc import Mapping

LOST_SECONDS = 60.0
"""An API server that is restarted is back sooner."""

Lost = Mapping[str, float | None]
"""What is watched → since when neither list nor watch has worked, None while they do."""


def not_alive(lost: Lost, *, now: float) -> str:
    """What has been lost for too long, or an empty text. Times are those of time.monotonic()."""
    seconds = {what: now - since for what, since in lost.items() if since is not None}
    return "; ".join(
        f"neither list nor watch of {what} has worked for {age:.0f} s"
        for what, age in sorted(seconds.items())
        if age > LOST_SECONDS
    )


def not_ready(lost: Lost, *, synced: Mapping[str, bool], now: float) -> str:
    """What is not known yet, or has been lost for too long, or an empty text."""
    missing = sorted(what for what, known in synced.items() if not known)
    return f"no list of {' and '.join(missing)} yet" if missing else not_alive(lost, now=now)
