"""How fast requests are made."""

import asyncio
import time
from collections.abc import Callable


class TokenBucket:
    """Lets `rate` a second pass on average, and `burst` at once after a rest, in the order in which
    they come."""

    def __init__(
        self, *, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._counted = clock()
        self._held_until = 0.0

    async def acquire(self) -> None:
        """Wait for one's turn."""
        pause = self._reserve()
        if pause > 0:
            await asyncio.sleep(pause)

    def hold(self, seconds: float) -> None:
        """Let nobody pass for so long who has not got a turn yet."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def _reserve(self) -> float:
        now = max(self._clock(), self._held_until)
        # What was reserved ahead is negative: who comes later waits longer.
        gained = max(0.0, now - self._counted) * self._rate
        self._tokens = min(float(self._burst), self._tokens + gained) - 1
        self._counted = max(now, self._counted)
        debt = max(0.0, -self._tokens) / self._rate
        return self._counted - self._clock() + debt
