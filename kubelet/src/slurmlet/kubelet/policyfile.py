"""Publishes what the webhook must know of the site (docs/contracts.md, Policy snapshot)."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from slurmlet.common.config import ConfigError
from slurmlet.contracts.identity import IdentityMap
from slurmlet.contracts.policy import NodeSize, Snapshot, encode
from slurmlet.kubelet.config import Kubelet, virtual_nodes
from slurmlet.kubelet.identities import Identities
from slurmlet.kubelet.slurm.capacity import Inventory, largest

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
"""Between looks at what may have changed: the user of an administrator who has just mended the
identity map waits for as long."""
WRITE_SECONDS = 60.0
"""Between writes when nothing changes, which tell a reader that somebody still looks."""


@dataclass(slots=True, kw_only=True)
class PolicyFile:
    """`inventory` returns what Slurm has, each time the same object until it was asked anew."""

    config: Kubelet
    identities: Identities
    inventory: Callable[[], Inventory]
    _written: Snapshot | None = None
    _written_at: float = 0.0
    _problem: str = ""
    _measured: Inventory | None = None
    _sizes: Mapping[str, tuple[NodeSize, ...]] = field(default_factory=dict)

    async def run(self) -> None:
        """Keep the file true until cancelled. A write that fails is tried again."""
        while True:
            await self.publish()
            await asyncio.sleep(CHECK_SECONDS)

    async def publish(self) -> None:
        """Write the file if something changed, or if it is time to."""
        wanted = self._snapshot()
        now = time.monotonic()
        due = self._written is None or now - self._written_at >= WRITE_SECONDS
        if not due and wanted == self._written:
            return
        text = encode(replace(wanted, written=time.time()))
        try:
            # The path is the administrator's to choose, and a disk may be slow.
            await asyncio.to_thread(write, Path(self.config.policy_file), text)
        except OSError as error:
            self._say(f"{self.config.policy_file} cannot be written: {error.strerror or error}")
            return
        self._say("")
        self._written, self._written_at = wanted, now

    def _snapshot(self) -> Snapshot:
        inventory = self.inventory()
        if inventory is not self._measured:
            self._measured, self._sizes = inventory, largest(inventory)
        return Snapshot(
            nodes={node.name: node.partition for node in virtual_nodes(self.config)},
            identities=self._identities(),
            sizes=self._sizes,
            engines=self.config.engines,
            pod_network=self.config.pod_network,
            request=self.config.request,
        )

    def _identities(self) -> IdentityMap | None:
        try:
            return self.identities.current()
        except ConfigError:
            # Said by whoever needs it; here it is one of the things that are not known.
            return None

    def _say(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.warning("the webhook is told nothing new: %s", problem)
        if self._problem and not problem:
            log.info("%s is written again", self.config.policy_file)
        self._problem = problem


def write(path: Path, text: str) -> None:
    """Replace a file by a rename, readable by everybody whatever the umask: it holds no secret.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    partial = path.with_name(f".{path.name}.new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o644)
        file.write(text)
    partial.replace(path)
