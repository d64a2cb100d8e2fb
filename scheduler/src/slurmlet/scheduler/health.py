"""Whether the scheduler works, and hears of pods and nodes. Pure."""

from collections.abc import Mapping

LOST_SECONDS = 60.0
"""An API server that is restarted is back sooner."""

Lost = Mapping[str, float | None]
"""What is watched → since when neither list nor watch has worked, None while they do."""


def not_alive(lost: Lost, *, beat: float, now: float) -> str:
    """What has been lost for too long, or an empty text. `beat` is when the event loop was last
    seen at work; times are those of time.monotonic()."""
    if now - beat > LOST_SECONDS:
        return f"the event loop has been stuck for {now - beat:.0f} s"
    seconds = {what: now - since for what, since in lost.items() if since is not None}
    return "; ".join(
        f"neither list nor watch of {what} has worked for {age:.0f} s"
        for what, age in sorted(seconds.items())
        if age > LOST_SECONDS
    )


def not_ready(lost: Lost, *, synced: Mapping[str, bool], beat: float, now: float) -> str:
    """What is not known yet, or has been lost for too long, or an empty text."""
    missing = sorted(what for what, known in synced.items() if not known)
    if missing:
        return f"no list of {' and '.join(missing)} yet"
    return not_alive(lost, beat=beat, now=now)
