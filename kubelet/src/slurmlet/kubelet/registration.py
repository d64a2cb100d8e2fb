"""Keeps the node object there and true."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from slurmlet.common.kube import STRATEGIC, Api, ApiError, Object, UnreachableError
from slurmlet.common.reflector import Reflector
from slurmlet.kubelet import node as nodes
from slurmlet.kubelet.config import Kubelet, VirtualNode
from slurmlet.kubelet.node import Facts
from slurmlet.kubelet.podstatus import timestamp
from slurmlet.kubelet.survey import Survey

log = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
"""Between looks at the node object when the watch of it says nothing."""
SPACING_SECONDS = 1.0
"""Between two looks whatever happens: somebody may fight us for the object."""
POST_SECONDS = 300.0
"""The status is written at least this often, as kubelet does; the lease says that we live."""


@dataclass(slots=True, kw_only=True)
class Registration:
    """`watching` is for the watch of the node. `jobs` counts those of the node's pods by state;
    they are counted once for each look of the survey, so that they cause no more writes.
    `on_missing` is called when the node was not there, `on_recovery` when pods that wait may go on:
    the API server takes what it did not take before, or the node is cordoned no more."""

    api: Api
    watching: Api
    survey: Survey
    node: VirtualNode
    config: Kubelet
    cluster: str
    release: str
    jobs: Callable[[], Mapping[str, int]]
    on_missing: Callable[[], None]
    on_recovery: Callable[[], None]
    cordoned: bool | None = None
    """None while nobody knows."""
    _held: bool = False
    """Whether the node was cordoned when it was last there: a new object is not."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _jobs: Mapping[str, int] = field(default_factory=dict)
    _counted: int = 0
    _posted: float | None = None

    @property
    def path(self) -> str:
        return f"/api/v1/nodes/{self.node.name}"

    async def run(self) -> None:
        """Register, and repair until cancelled."""
        reflector = Reflector(
            self.watching,
            "/api/v1/nodes",
            params={"fieldSelector": f"metadata.name={self.node.name}"},
            on_change=self.changed,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(reflector.run())
            group.create_task(self._keep())

    def poke(self) -> None:
        """Look soon instead of at the next interval."""
        self._wake.set()

    def changed(self, _key: str, _before: Object | None, after: Object | None) -> None:
        """What the watch says of the object."""
        self._see(after)
        if after is None or not _ready(after):
            self.poke()

    async def _keep(self) -> None:
        failed = False
        while True:
            self._wake.clear()
            try:
                await self.post()
                if failed:
                    self.on_recovery()
                failed = False
            except (ApiError, UnreachableError) as error:
                log.warning("node %s is not up to date: %s", self.node.name, error)
                failed = True
            await asyncio.sleep(SPACING_SECONDS)
            # Python 3.11's wait_for forgets a cancellation that comes together with what it awaits.
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS - SPACING_SECONDS):
                    await self._wake.wait()

    async def post(self) -> None:
        """Write what is missing from the node object, and make it if it is not there.

        Raises:
            ApiError, UnreachableError: the API server refused or did not answer.
        """
        known = self.survey.looks > 0
        partition = self.survey.inventory.partitions.get(self.node.partition)
        wanted = nodes.new_node(self.node, self.config, cluster=self.cluster, partition=partition)
        try:
            live = await self.api.get(self.path)
        except ApiError as error:
            if error.status != 404:
                raise
            log.warning("node %s is not there and is made", self.node.name)
            self.on_missing()
            live = await self.api.create("/api/v1/nodes", wanted)
        self._see(live)
        gone = known and bool(self.node.partition) and partition is None
        labels = nodes.metadata_patch(live, wanted, gone=gone)
        if labels:
            await self.api.patch(self.path, labels)
        if not known and not self.survey.problem:
            # Slurm was not asked yet.
            return
        if self._counted != self.survey.looks:
            self._jobs, self._counted = self.jobs(), self.survey.looks
        now = time.monotonic()
        facts = Facts(
            inventory=self.survey.inventory if known else None,
            agent=self.release,
            slurm=self.survey.release,
            jobs=self._jobs,
            problem=self.survey.problem,
        )
        patch = nodes.status_patch(
            live, self.node, self.config, facts=facts, now=timestamp(time.time())
        )
        due = self._posted is None or now - self._posted > POST_SECONDS
        if due or nodes.differs(live, patch):
            await self.api.patch(f"{self.path}/status", patch, content_type=STRATEGIC)
            self._posted = now

    def _see(self, live: Object | None) -> None:
        if live is None:
            self.cordoned = None
            return
        held, self._held = self._held, bool((live.get("spec") or {}).get("unschedulable"))
        self.cordoned = self._held
        if held and not self.cordoned:
            log.info("node %s is cordoned no more", self.node.name)
            self.on_recovery()


def _ready(live: Object) -> bool:
    conditions = (live.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
