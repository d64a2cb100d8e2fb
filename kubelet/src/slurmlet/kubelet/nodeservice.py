"""What the agent has once for each virtual node: who it is to the API server, and its pods."""

import functools
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from slurmlet.common.kube import Api, Object
from slurmlet.common.reflector import OnChange, Reflector
from slurmlet.kubelet import orphans
from slurmlet.kubelet.api.auth import Authorizer
from slurmlet.kubelet.api.podlogs import PodLogs
from slurmlet.kubelet.api.server import KubeletApi
from slurmlet.kubelet.brokerclient import Broker
from slurmlet.kubelet.config import Kubelet, VirtualNode
from slurmlet.kubelet.controller import Controller
from slurmlet.kubelet.events import Events
from slurmlet.kubelet.identities import Identities
from slurmlet.kubelet.jobwatch import JobWatch
from slurmlet.kubelet.records import Entry, Journal, Record, Records, job_counts
from slurmlet.kubelet.registration import Registration
from slurmlet.kubelet.servicewatch import Updates
from slurmlet.kubelet.slurm.query import Slurm
from slurmlet.kubelet.submit import Submitter
from slurmlet.kubelet.survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A virtual node and the API server as this node; `watching` has connections of its own, so
    that nothing can starve a watch."""

    node: VirtualNode
    api: Api
    watching: Api


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all virtual nodes of an agent have in common. `cluster` is its name, `key` makes the
    tokens of jobs."""

    config: Kubelet
    cluster: str
    key: bytes
    release: str
    records: Records
    journal: Journal
    slurm: Slurm
    watch: JobWatch
    survey: Survey
    identities: Identities
    broker: Broker
    events: Events
    updates: Updates


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a virtual node tells the agent: `changed` each change of its pods, `touch` a record that
    needs work and `touch_all` that all do; `orphaned` a job without a pod, `missing` (the node's
    name) that the node's object was not there."""

    changed: OnChange
    touch: Callable[[Record], None]
    touch_all: Callable[[], None]
    orphaned: Callable[[Entry], None]
    missing: Callable[[str], None]


class NodeService:
    """One virtual node: its object, its pods by key (`store`) and what is done with them."""

    def __init__(self, connection: Connection, shared: Shared, hooks: Hooks) -> None:
        node, api = connection.node, connection.api
        self.node = node
        self.api = api
        self._records = shared.records
        self._address = shared.config.address
        self.pods = Reflector(
            connection.watching,
            "/api/v1/pods",
            params={"fieldSelector": f"spec.nodeName={node.name}"},
            on_change=hooks.changed,
        )
        self.registration = Registration(
            api=api,
            watching=connection.watching,
            survey=shared.survey,
            node=node,
            config=shared.config,
            cluster=shared.cluster,
            release=shared.release,
            jobs=self._jobs,
            on_missing=functools.partial(hooks.missing, node.name),
            on_recovery=hooks.touch_all,
        )
        self.submitter = Submitter(
            api=api,
            broker=shared.broker,
            slurm=shared.slurm,
            watch=shared.watch,
            events=shared.events,
            records=shared.records,
            journal=shared.journal,
            identities=shared.identities,
            config=shared.config,
            node=node,
            cluster=shared.cluster,
            key=shared.key,
            touch=hooks.touch,
            orphaned=hooks.orphaned,
            inventory=lambda: shared.survey.inventory,
            cordoned=lambda: self.registration.cordoned,
        )
        self.controller = Controller(
            api=api,
            store=self.pods.store,
            records=shared.records,
            journal=shared.journal,
            watch=shared.watch,
            slurm=shared.slurm,
            broker=shared.broker,
            events=shared.events,
            submitter=self.submitter,
            updates=shared.updates,
        )

    @property
    def store(self) -> dict[str, Object]:
        return self.pods.store

    def parts(
        self, *, logs: PodLogs, context: ssl.SSLContext, healthy: Callable[[], str], streams: Any
    ) -> Iterator[Coroutine[Any, Any, None]]:
        """What has to run, all at the same time."""
        yield self.registration.run()
        yield self.pods.run()
        served = KubeletApi(
            authorizer=Authorizer(self.api, self.node.name),
            store=self.store,
            records=self._records,
            logs=logs,
            healthy=healthy,
            streams=streams,
        )
        yield served.serve(address=self._address, port=self.node.port, context=context)

    async def has(self, entry: Entry) -> bool:
        """Whether the API server has this pod on this node.

        Raises:
            ApiError, UnreachableError: it is not known.
        """
        return await orphans.exists(entry, self.api, node=self.node.name)

    def silent_seconds(self) -> float:
        """For how long nothing was heard of the pods, not even a bookmark."""
        return time.monotonic() - self.pods.last_heard

    def _jobs(self) -> dict[str, int]:
        own = (self._records.get(pod["metadata"]["uid"]) for pod in self.store.values())
        return job_counts(record for record in own if record)
