"""When a container starts again, as kubelet decides it. No I/O."""

from dataclasses import dataclass

FIRST_DELAY = 10.0
LONGEST_DELAY = 300.0
RESET_AFTER = 600.0
"""Seconds; kubelet's back-off of containers and of image pulls."""


@dataclass(slots=True, kw_only=True)
class BackOff:
    """Delays in seconds between failures: 10 s doubling, after `first` (containers start again at
    once after their first end, image pulls do not)."""

    first: float = 0.0
    _delay: float | None = None
    _resumed: float = 0.0

    def next(self, now: float) -> float:
        """The delay before the next try, for a failure at `now` (monotonic seconds)."""
        if self._delay is None or now - self._resumed > RESET_AFTER:
            result = self.first
        else:
            result = min(max(self._delay * 2, FIRST_DELAY), LONGEST_DELAY)
        self._delay = result
        self._resumed = now + result
        return result


def restarts(policy: str, *, exit_code: int) -> bool:
    """Whether restartPolicy `policy` starts a container again that ended with this code."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)
