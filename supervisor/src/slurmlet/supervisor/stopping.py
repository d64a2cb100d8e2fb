"""A request to stop, with a grace that may be shortened but not extended."""

import asyncio
from time import monotonic


class Stopping:
    """Shared by all that must end together."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self._shortened = asyncio.Event()
        self._deadline = float("inf")

    def request(self, grace: float) -> None:
        """Stop; what still runs after `grace` seconds is killed."""
        self._deadline = min(self._deadline, monotonic() + max(grace, 0))
        self.requested.set()
        self._shortened.set()

    @property
    def left(self) -> float:
        """Seconds of grace that are left."""
        return max(self._deadline - monotonic(), 0)

    async def expired(self) -> None:
        """Return when the grace is over."""
        await self.requested.wait()
        while self.left > 0:
            self._shortened.clear()
            try:
                async with asyncio.timeout(self.left):
                    await self._shortened.wait()
            except TimeoutError:
                continue

    async def pause(self, seconds: float) -> bool:
        """Wait, but not beyond a request to stop; whether there is one."""
        try:
            async with asyncio.timeout(seconds):
                await self.requested.wait()
        except TimeoutError:
            return False
        return True
