"""When vanished pods are believed: many at once are more likely the API server's accident. Pure."""

from collections import deque

WINDOW_SECONDS = 60.0
HOLD_SECONDS = 600.0
LEAST = 20
SHARE = 0.1


class Holding:
    """Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._vanished: deque[float] = deque()
        self._until = 0.0

    def vanished(self, now: float, *, pods: int) -> bool:
        """A pod vanished without having been marked for deletion; `pods` were there before. True
        if this begins a time of holding."""
        held = self.seconds_left(now) > 0
        self._vanished.append(now)
        while self._vanished and self._vanished[0] < now - WINDOW_SECONDS:
            self._vanished.popleft()
        if len(self._vanished) <= max(LEAST, SHARE * pods):
            return False
        self._until = now + HOLD_SECONDS
        return not held

    def node_was_away(self, now: float, *, jobs: int) -> bool:
        """The node object was missing, so the control plane had reason to remove the pods of `jobs`
        live jobs; without any, as on a new cluster, there is nothing to hold. True if it holds."""
        if jobs:
            self._until = now + HOLD_SECONDS
        return jobs > 0

    def seconds_left(self, now: float) -> float:
        """How long jobs of vanished pods are still left alone; 0 when they are not."""
        return max(0.0, self._until - now)
