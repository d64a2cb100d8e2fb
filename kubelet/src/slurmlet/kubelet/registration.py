"""Keeps the node object there and true."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from slurmlet.common.kube import STRATEGIC, Api, ApiError, Object, UnreachableError
from slurmlet.kubelet import node
from slurmlet.kubelet.config import Kubelet
from slurmlet.kubelet.node import Software
from slurmlet.kubelet.podstatus import timestamp
from slurmlet.kubelet.slurm import capacity
from slurmlet.kubelet.slurm.capacity import SlurmNode
from slurmlet.kubelet.slurm.process import CommandError
from slurmlet.kubelet.slurm.query import Slurm

log = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
"""Between looks at the node object: how long a deleted one is missed."""
CAPACITY_SECONDS = 60.0
"""Between looks at Slurm's nodes."""
POST_SECONDS = 300.0
"""The status is written at least this often, as kubelet does; the lease says that we live."""


@dataclass(slots=True, kw_only=True)
class Registration:
    """`nodes` are Slurm's nodes by name; `on_missing` is called when the node was not there,
    `on_recovery` when the API server takes what it did not take before."""

    api: Api
    slurm: Slurm
    config: Kubelet
    cluster: str
    software: Software
    on_missing: Callable[[], None]
    on_recovery: Callable[[], None]
    nodes: dict[str, SlurmNode] = field(default_factory=dict)
    problem: str = "not asked yet"
    registered: asyncio.Event = field(default_factory=asyncio.Event)
    _looked: float | None = None
    _posted: float | None = None
    _said: Object | None = None

    @property
    def path(self) -> str:
        return f"/api/v1/nodes/{self.config.node_name}"

    async def run(self) -> None:
        """Register, and repair until cancelled."""
        failed = False
        while True:
            try:
                await self.look()
                await self.post()
                self.registered.set()
                if failed:
                    self.on_recovery()
                failed = False
            except (ApiError, UnreachableError) as error:
                log.warning("node %s is not up to date: %s", self.config.node_name, error)
                failed = True
            await asyncio.sleep(CHECK_SECONDS)

    async def look(self) -> None:
        """Ask Slurm for its nodes, if it is time to; silence keeps what is known."""
        now = time.monotonic()
        if self._looked is not None and now - self._looked < CAPACITY_SECONDS and not self.problem:
            return
        try:
            self.nodes = capacity.parse(await self.slurm.nodes())
            self.software = replace(self.software, slurm=await self.slurm.version())
            self.problem = ""
            self._looked = now
        except CommandError as error:
            self.problem = str(error)[:300]
            log.warning("the capacity of the cluster is not known now: %s", error)

    async def post(self) -> None:
        """Write what is missing from the node object, and make it if it is not there.

        Raises:
            ApiError, UnreachableError: the API server refused or did not answer.
        """
        wanted = node.new_node(self.config, cluster=self.cluster)
        try:
            live = await self.api.get(self.path)
        except ApiError as error:
            if error.status != 404:
                raise
            log.warning("node %s is not there and is made", self.config.node_name)
            self.on_missing()
            live = await self.api.create("/api/v1/nodes", wanted)
            self._said = None
        labels = node.metadata_patch(live, wanted)
        if labels:
            await self.api.patch(self.path, labels)
        if self._looked is None:
            # Nothing is known of Slurm yet: what an earlier agent wrote stays.
            return
        now = time.monotonic()
        patch = node.status_patch(
            live,
            self.config,
            nodes=self.nodes,
            slurm_problem=self.problem,
            software=self.software,
            now=timestamp(time.time()),
        )
        due = self._posted is None or now - self._posted > POST_SECONDS
        if due or not _ready(live) or _lasting(patch) != self._said:
            await self.api.patch(f"{self.path}/status", patch, content_type=STRATEGIC)
            self._posted, self._said = now, _lasting(patch)


def _ready(live: Object) -> bool:
    conditions = (live.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _lasting(patch: Object) -> Object:
    """A status without its times."""
    status = dict(patch["status"])
    status["conditions"] = [
        (item["type"], item["status"], item["message"]) for item in status["conditions"]
    ]
    return {**status, "annotations": patch["metadata"]["annotations"]}
