"""The agent's parts and how they are joined."""

import asyncio
import logging
import ssl
import time
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

from slurmlet.common.config import ConfigError
from slurmlet.common.kube import Api, Object
from slurmlet.common.workqueue import WorkQueue
from slurmlet.contracts.identity import IdentityError
from slurmlet.contracts.names import ENGINE_ANNOTATION, setting
from slurmlet.contracts.site import Cluster
from slurmlet.kubelet import orphans, plan
from slurmlet.kubelet.address import Decoder
from slurmlet.kubelet.api.podlogs import PodLogs
from slurmlet.kubelet.api.server import MAX_STREAMS
from slurmlet.kubelet.brokerclient import Broker
from slurmlet.kubelet.channel import UNPROVED, Channel
from slurmlet.kubelet.config import Kubelet
from slurmlet.kubelet.events import Events, node_of
from slurmlet.kubelet.holding import HOLD_SECONDS, Holding
from slurmlet.kubelet.identities import Identities
from slurmlet.kubelet.jobwatch import JobWatch
from slurmlet.kubelet.nodeservice import Connection, Hooks, NodeService, Shared
from slurmlet.kubelet.orphans import Orphans
from slurmlet.kubelet.plan import Surroundings
from slurmlet.kubelet.policyfile import PolicyFile
from slurmlet.kubelet.records import Entry, Journal, Record, Records
from slurmlet.kubelet.servicewatch import ServiceWatch, Updates
from slurmlet.kubelet.slurm.process import Commands
from slurmlet.kubelet.slurm.query import Slurm
from slurmlet.kubelet.streams import Streams
from slurmlet.kubelet.survey import Survey

log = logging.getLogger(__name__)

WORKERS = 64
"""Pods in work at once: most of them wait for the broker, which takes 16 at a time."""
SILENCE_SECONDS = 600.0
"""A copy of the pods that heard nothing for so long, not even a bookmark, is not trusted."""


class Agent:
    """Everything of one cluster: its virtual nodes, and what they share."""

    def __init__(
        self,
        connections: Sequence[Connection],
        *,
        config: Kubelet,
        cluster: Cluster,
        key: bytes,
        release: str,
    ) -> None:
        # What any node may ask is asked as the first.
        api, watching = connections[0].api, connections[0].watching
        self._config = config
        self._cluster = cluster.name
        self._queue = WorkQueue(self._sync, workers=WORKERS)
        self._orphan_queue = WorkQueue(self._sync_orphan, workers=4)
        self._uids: dict[str, Object] = {}
        self._synced = asyncio.Event()
        self._journal = Journal(Path(config.state_dir) / "jobs")
        self._records = Records(
            journalled={entry.job_id: entry.uid for entry in self._journal.entries()}
        )
        self._slurm = Slurm(Commands(config.slurm_bin).run)
        self._watch = JobWatch(self._slurm, interval=config.poll_seconds)
        self._survey = Survey(slurm=self._slurm, on_look=self._looked)
        self._holding = Holding()
        self._events = Events(api)
        self._identities = Identities(config.identity_file)
        self._services = ServiceWatch(watching, on_change=self._services_changed)
        broker = Broker(config.broker_socket)
        shared = Shared(
            config=config,
            cluster=cluster.name,
            key=key,
            release=release,
            records=self._records,
            journal=self._journal,
            slurm=self._slurm,
            watch=self._watch,
            survey=self._survey,
            identities=self._identities,
            broker=broker,
            events=self._events,
            updates=Updates(watch=self._services, events=self._events, server=config.server),
        )
        hooks = Hooks(
            changed=self._changed,
            touch=self._touch,
            touch_all=self._touch_all,
            orphaned=lambda entry: self._orphaned(entry, expected=True),
            missing=self._node_was_away,
        )
        self._nodes = {item.node.name: NodeService(item, shared, hooks) for item in connections}
        # To find, to follow and to cancel a job takes no node.
        submitter = next(iter(self._nodes.values())).submitter
        self._orphans = Orphans(
            exists=self._exists,
            records=self._records,
            journal=self._journal,
            watch=self._watch,
            submitter=submitter,
            holding=self._holding,
            lost=self._lost,
        )
        self._policy = PolicyFile(
            config=config,
            identities=self._identities,
            inventory=lambda: self._survey.inventory,
        )
        streams = Streams()
        self._logs = PodLogs(records=self._records, streams=streams, broker=broker)
        self._channel = Channel(
            api_of=self._api_of,
            records=self._records,
            watch=self._watch,
            events=self._events,
            streams=streams,
            key=key,
            surroundings=Surroundings(
                service_env=plan.service_environment(config.server),
                dns_servers=config.dns_servers,
                cluster_domain=config.cluster_domain,
            ),
            decoder=Decoder(commands=Commands(config.slurm_bin), unmunge=config.unmunge),
            pod_network=config.pod_network,
            synced=self._synced,
            pod_of=self._pod_of,
            engine_of=self._engine_of,
            node_address=self._node_address,
            user_of=self._user_of,
            node_names=self._node_names,
            touch=self._touch,
            stranger=self._stranger,
            duplicate=submitter.cancel,
            unproved=asyncio.Semaphore(UNPROVED),
        )

    def parts(
        self, *, api_context: ssl.SSLContext, channel_context: ssl.SSLContext
    ) -> Iterator[Coroutine[Any, Any, None]]:
        """What has to run, all at the same time."""
        config = self._config
        yield self._survey.run()
        yield self._policy.run()
        yield self._services.run()
        yield self._watch.run()
        yield self._events.run()
        yield self._queue.run()
        yield self._orphan_queue.run()
        yield self._look_for_orphans()
        logs = asyncio.Semaphore(MAX_STREAMS)
        for node in self._nodes.values():
            yield from node.parts(
                logs=self._logs, context=api_context, healthy=self._problem, streams=logs
            )
        yield self._channel.serve(
            address=config.address, port=config.supervisor_port, context=channel_context
        )

    async def _sync(self, key: str) -> float | None:
        # A pod that was made anew under its name may be on another node than the one before.
        pauses = [
            await node.controller.sync(key) for node in self._nodes.values() if key in node.store
        ]
        return min((pause for pause in pauses if pause is not None), default=None)

    async def _sync_orphan(self, uid: str) -> float | None:
        return await self._orphans.sync(uid)

    def _touch(self, record: Record) -> None:
        self._queue.add(record.key)

    def _touch_all(self) -> None:
        """What could not be done, while the API server was away or the node cordoned, is tried."""
        for record in self._records:
            self._queue.add(record.key)

    def _looked(self) -> None:
        for node in self._nodes.values():
            node.registration.poke()

    def _changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if after is not None:
            self._uids[after["metadata"]["uid"]] = after
        if before is not None and (
            after is None or after["metadata"]["uid"] != before["metadata"]["uid"]
        ):
            self._vanished(before)
        self._queue.add(key)

    def _node_was_away(self, name: str) -> None:
        jobs = [entry for entry in self._journal.entries() if entry.node in ("", name)]
        if self._holding.node_was_away(time.monotonic(), jobs=len(jobs)):
            self._held(f"The object of node {name} was missing")

    def _vanished(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._uids.pop(uid, None)
        record = self._records.get(uid)
        if record is None or record.over or record.job_id is None:
            self._records.drop(uid)
            return
        entry = Entry(
            uid=uid,
            namespace=record.namespace,
            name=record.name,
            job_id=record.job_id,
            node=pod["spec"]["nodeName"],
        )
        # The API server marks a pod also when it is deleted by force, just before it removes it.
        self._orphaned(entry, expected=bool(pod["metadata"].get("deletionTimestamp")))

    def _lost(self) -> None:
        pods = max(len(self._uids), len(self._records))
        if self._holding.vanished(time.monotonic(), pods=pods):
            self._held("Many pods vanished at once that nobody had deleted")

    def _held(self, why: str) -> None:
        message = f"{why}: jobs of vanished pods are left alone for {HOLD_SECONDS / 60:.0f} minutes"
        log.error("%s", message)
        for name in self._nodes:
            self._events.emit(node_of(name), "JobsHeld", message, kind="Warning")

    def _orphaned(self, entry: Entry, *, expected: bool) -> None:
        self._orphans.add(entry, expected=expected)
        self._orphan_queue.add(entry.uid)

    async def _stranger(self, uid: str, job_id: int) -> None:
        """A job of ours said hello whose pod is not known (any more)."""
        if uid in self._orphans.found:
            return
        entry = self._journal.find(uid, job_id)
        if entry is not None and not self._serves(entry):
            return
        if entry is None:
            # Its sbatch outlived the agent that asked for it, and its pod did not.
            comment = await self._slurm.comment(job_id)
            entry = orphans.entry_of(comment, cluster=self._cluster, uid=uid, job_id=job_id)
        if entry is None:
            log.warning("job %d of pod %s is ours, but nothing is known of its pod", job_id, uid)
            return
        self._orphaned(entry, expected=True)

    async def _look_for_orphans(self) -> None:
        """Once after the start: jobs whose pod vanished while the agent was away."""
        for node in self._nodes.values():
            await node.pods.synced.wait()
        self._synced.set()
        for entry in self._journal.entries():
            if entry.uid not in self._uids and self._serves(entry):
                self._orphaned(entry, expected=False)

    def _serves(self, entry: Entry) -> bool:
        """Whether a job's pod is, or was, on a node of this agent; of others nothing is known."""
        name = entry.node or self._config.node_name
        if name in self._nodes:
            return True
        log.warning(
            "%s/%s: job %d is left alone: its pod is on node %s, which this agent does not serve",
            entry.namespace,
            entry.name,
            entry.job_id,
            name,
        )
        return False

    async def _exists(self, entry: Entry) -> bool:
        named = self._nodes.get(entry.node)
        for node in [named] if named else list(self._nodes.values()):
            if await node.has(entry):
                return True
        return False

    def _api_of(self, pod: Object) -> Api:
        return self._nodes[pod["spec"]["nodeName"]].api

    def _pod_of(self, uid: str) -> Object | None:
        return self._uids.get(uid)

    def _engine_of(self, pod: Object) -> str:
        annotations = pod["metadata"].get("annotations") or {}
        return setting(annotations, ENGINE_ANNOTATION) or self._config.engines[0]

    def _node_address(self, name: str) -> str:
        found = self._survey.inventory.nodes.get(name)
        return found.address if found else name

    def _user_of(self, namespace: str) -> str:
        try:
            return self._identities.current().lookup(namespace).user
        except (ConfigError, IdentityError):
            return ""

    def _node_names(self, name: str) -> set[str]:
        found = self._survey.inventory.nodes.get(name)
        return {name, found.hostname} - {""} if found else {name}

    def _services_changed(self, namespace: str | None) -> None:
        for record in self._records:
            if record.session and namespace in (None, record.namespace):
                self._queue.add(record.key)

    def _problem(self) -> str:
        silent = max(node.silent_seconds() for node in self._nodes.values())
        if silent > SILENCE_SECONDS:
            return f"nothing was heard of the pods for {silent:.0f} s"
        return ""
