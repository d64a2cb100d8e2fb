"""Looks at Slurm's nodes and partitions at an interval, and keeps what is known."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from slurmlet.kubelet.slurm.capacity import Inventory
from slurmlet.kubelet.slurm.process import CommandError
from slurmlet.kubelet.slurm.query import Slurm

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""Between two looks. Each may change the node object, which wakes whoever watches nodes."""
AGAIN_SECONDS = 10.0
"""After a look that failed, or before an empty list is believed."""
EMPTY_SECONDS = 300.0
"""How long Slurm has to say that it has no node before that is believed: a cluster of dynamic nodes
may have none, but a slurmctld that starts anew without its state says the same."""
MAX_PROBLEM = 300
"""Characters of a problem, which becomes the message of a condition."""


@dataclass(slots=True, kw_only=True)
class Survey:
    """`inventory` is what Slurm has as far as is known, `release` its release, empty while it is
    unknown. `problem` says why the last look told nothing, or that Slurm hides jobs, or is empty.
    `looks` counts those that told something: before the first nothing is known. `on_look` is called
    after each."""

    slurm: Slurm
    on_look: Callable[[], None]
    inventory: Inventory = field(default_factory=Inventory)
    release: str = ""
    problem: str = ""
    looks: int = 0
    _empty_since: float | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            told = await self.look()
            self.on_look()
            await asyncio.sleep(LOOK_SECONDS if told else AGAIN_SECONDS)

    async def look(self) -> bool:
        """Ask once; whether that told something. Silence, garbage and an empty list keep what is
        known."""
        try:
            settings = await self.slurm.settings()
            found = await self.slurm.inventory(settings)
        except CommandError as error:
            self._empty_since = None
            self._failed(str(error))
            return False
        if not self._believed(found):
            self._failed("sinfo lists no nodes")
            return False
        self.inventory, self.release = found, await self._release()
        self.looks += 1
        hidden = (await self._hidden(settings))[:MAX_PROBLEM]
        if hidden and hidden != self.problem:
            log.error("%s", hidden)
        self.problem = hidden
        return True

    async def _hidden(self, settings: str) -> str:
        """Why jobs may be hidden from us, which says nothing of nodes."""
        try:
            return await self.slurm.hidden(settings)
        except CommandError as error:
            return f"whether Slurm hides the jobs of pods from the agent is not known: {error}"

    async def _release(self) -> str:
        """It is shown and no more: what is known of nodes does not hang on it."""
        try:
            return await self.slurm.version()
        except CommandError as error:
            log.debug("the release of Slurm is not known now: %s", error)
            return self.release

    def _failed(self, error: str) -> None:
        problem = error[:MAX_PROBLEM]
        if problem != self.problem:
            log.warning("the capacity of the cluster is not known now: %s", problem)
        self.problem = problem

    def _believed(self, found: Inventory) -> bool:
        """Not an empty list, until it has been the only answer for long."""
        if found.nodes:
            self._empty_since = None
            return True
        now = time.monotonic()
        self._empty_since = now if self._empty_since is None else self._empty_since
        return now - self._empty_since >= EMPTY_SECONDS
