"""Jobs whose pod vanished from the API without a word: cancelled, but not in haste."""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from slurmlet.common.kube import Api
from slurmlet.contracts.brokerproto import NAMESPACE, POD_NAME
from slurmlet.contracts.podproto import Stop
from slurmlet.kubelet.holding import Holding
from slurmlet.kubelet.jobwatch import JobWatch
from slurmlet.kubelet.records import Entry, Journal, Records
from slurmlet.kubelet.slurm.states import Meaning, observe
from slurmlet.kubelet.submit import Submitter

log = logging.getLogger(__name__)

COUNT_SECONDS = 5.0
"""Before a vanished pod is counted as lost, so that Slurm can say first that its job has ended."""
SETTLE_SECONDS = 10.0
"""Before a vanished pod is believed, so that many at once are seen as such first."""
AGAIN_SECONDS = 10.0
HELD_SECONDS = 30.0


@dataclass(slots=True, kw_only=True)
class Vanished:
    """What vanished `since` a time of time.monotonic(); `expected` says that nothing was lost: the
    pod was marked for deletion, or it was counted already."""

    entry: Entry
    since: float
    expected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """Works on pod UIDs; `lost` is told of each pod with a live job that vanished unexpectedly.
    `exists` asks the API server, and nobody's copy, whether a pod is there after all."""

    exists: Callable[[Entry], Awaitable[bool]]
    records: Records
    journal: Journal
    watch: JobWatch
    submitter: Submitter
    holding: Holding
    lost: Callable[[], None]
    found: dict[str, Vanished] = field(default_factory=dict)

    def add(self, entry: Entry, *, expected: bool) -> None:
        """A pod vanished that has, or had, this job."""
        if entry.uid not in self.found:
            self.found[entry.uid] = Vanished(entry=entry, since=time.monotonic(), expected=expected)

    async def sync(self, uid: str) -> float | None:
        """See one job to its end; the result is when to look again, in seconds.

        Raises:
            ApiError, UnreachableError: it is not known whether the pod is really gone.
        """
        if uid not in self.found:
            return None
        vanished = self.found[uid]
        entry, now = vanished.entry, time.monotonic()
        age = now - vanished.since
        if not self.watch.tracks(entry.job_id):
            self.watch.track(entry.job_id, lambda: None)
        job = self.watch.facts(entry.job_id)
        if job and observe(job.state).meaning is Meaning.ENDED:
            self._forget(entry)
            return None
        if age < COUNT_SECONDS:
            return COUNT_SECONDS - age
        if not vanished.expected:
            vanished.expected = True
            self.lost()
        if age < SETTLE_SECONDS:
            return SETTLE_SECONDS - age
        left = self.holding.seconds_left(now)
        if left > 0:
            log.warning(
                "%s/%s: its pod is gone, job %d is held for %.0f s",
                entry.namespace,
                entry.name,
                entry.job_id,
                left,
            )
            return min(left, HELD_SECONDS)
        if await self.exists(entry):
            log.info("%s/%s: the pod is there after all", entry.namespace, entry.name)
            del self.found[uid]
            if self.records.get(uid) is None:
                self.watch.untrack(entry.job_id)
            return None
        await self._stop(uid)
        if await self.submitter.cancel(entry.namespace, entry.job_id):
            log.info(
                "%s/%s: its pod is gone, job %d cancelled",
                entry.namespace,
                entry.name,
                entry.job_id,
            )
        return AGAIN_SECONDS

    async def _stop(self, uid: str) -> None:
        """Nobody waits for a grace period that ends at scancel's own."""
        record = self.records.get(uid)
        if record and record.session:
            with suppress(ConnectionError, TimeoutError):
                await record.session.send(Stop(grace=0, reason="the pod is gone"))

    def _forget(self, entry: Entry) -> None:
        del self.found[entry.uid]
        self.watch.untrack(entry.job_id)
        self.journal.remove(entry.uid)
        self.records.drop(entry.uid)


async def exists(entry: Entry, api: Api, *, node: str) -> bool:
    """Whether the pod is there, on this node: asked without a resourceVersion, which makes it a
    quorum read.

    A list, because the node authorizer forbids a node to get a pod that is not bound to it, and so
    one that does not exist.

    Raises:
        ApiError, UnreachableError: it is not known.
    """
    items, _ = await api.list(
        f"/api/v1/namespaces/{entry.namespace}/pods",
        {"fieldSelector": f"metadata.name={entry.name},spec.nodeName={node}"},
    )
    return any(item["metadata"]["uid"] == entry.uid for item in items)


def entry_of(comment: str, *, cluster: str, uid: str, job_id: int) -> Entry | None:
    """What the comment of a job says of its pod (docs/contracts.md, Names).

    The job's owner may have edited it: whoever names another pod there leads his own job astray.
    """
    words = comment.split(":")
    if len(words) != 5 or words[:2] != ["slurmlet", cluster] or words[3] != uid:
        return None
    namespace, _, name = words[2].partition("/")
    if not NAMESPACE.fullmatch(namespace) or not POD_NAME.fullmatch(name):
        return None
    return Entry(uid=uid, namespace=namespace, name=name, job_id=job_id)
