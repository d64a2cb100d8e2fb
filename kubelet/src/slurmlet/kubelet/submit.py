"""From a bound pod to its one job: pre-flight, adoption of a job that exists already, sbatch."""

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slurmlet.common.config import ConfigError
from slurmlet.common.kube import STRATEGIC, Api, Object
from slurmlet.contracts import podproto
from slurmlet.contracts.admission import Verdict
from slurmlet.contracts.brokerproto import Cancel, Submit
from slurmlet.contracts.names import (
    ATTEMPT_ANNOTATION,
    JOB_ID_ANNOTATION,
    REQUEST_ANNOTATION,
    job_comment,
    job_name,
)
from slurmlet.contracts.request import grace_seconds
from slurmlet.contracts.wording import in_one
from slurmlet.kubelet import plan, preflight, references
from slurmlet.kubelet.address import uses_host_network
from slurmlet.kubelet.brokerclient import Broker, BrokerError
from slurmlet.kubelet.config import Kubelet, VirtualNode
from slurmlet.kubelet.events import Events
from slurmlet.kubelet.hello import MAX_ATTEMPTS
from slurmlet.kubelet.identities import Identities, uid_of
from slurmlet.kubelet.jobwatch import JobWatch
from slurmlet.kubelet.records import Entry, Journal, Record, Records
from slurmlet.kubelet.slurm.capacity import Inventory, largest
from slurmlet.kubelet.slurm.process import CommandError
from slurmlet.kubelet.slurm.query import JobFacts, Slurm
from slurmlet.kubelet.slurm.refusal import explain, is_silence, unanswered
from slurmlet.kubelet.slurm.states import Meaning, observe

log = logging.getLogger(__name__)

RETRY_SECONDS = (10.0, 300.0)
"""Between submissions: a pod that is refused once will mostly be refused again."""
REFERENCE_SECONDS = (2.0, 60.0)
"""Between looks at references that are missing, and at a name service that is silent."""

CORDONED = "NodeCordoned"
CORDONED_SECONDS = 60.0
"""Between looks at a pod on a cordoned node; whoever uncordons it is noticed at once."""
UNKNOWN_SECONDS = 1.0
"""Between looks while the node object was not seen yet, or is being made again."""

SETTLE_SECONDS = 5.0
"""Before a submission that another agent began, or that gave no answer, is taken for lost: it may
still be on its way. A slurmctld that was frozen may answer squeue before what waited longer."""

SKEW_SECONDS = 60
"""Between the clocks of the API server and of Slurm."""


def pod_path(record: Record) -> str:
    return f"/api/v1/namespaces/{record.namespace}/pods/{record.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """`node` is the virtual node whose pods these are. `cluster` is the name in job comments, `key`
    makes the tokens, `touch` asks for work on a record; `orphaned` is told of a job whose pod
    vanished while it was submitted; `inventory` is Slurm's as last seen; `cordoned` says whether
    the node takes no new work, None while nobody knows."""

    api: Api
    broker: Broker
    slurm: Slurm
    watch: JobWatch
    events: Events
    records: Records
    journal: Journal
    identities: Identities
    config: Kubelet
    node: VirtualNode
    cluster: str
    key: bytes
    touch: Callable[[Record], None]
    orphaned: Callable[[Entry], None]
    inventory: Callable[[], Inventory]
    cordoned: Callable[[], bool | None]

    async def advance(self, pod: Mapping[str, Any], record: Record) -> float | None:
        """Do the next thing towards a job; the result is when to come back, in seconds.

        Raises:
            ApiError, UnreachableError: the API server did not do its part.
            CommandError: it cannot be known whether there is a job already.
        """
        left = record.retry_at - time.monotonic()
        if left > 0:
            return left
        decision = await self._decide(pod, record)
        if decision is None:
            return self._later(record, REFERENCE_SECONDS)
        if decision.errors:
            return self._refused(pod, record, in_one(decision.errors))
        needed = [
            *references.of_volumes(pod),
            *references.of_container(references.containers(pod)[0]),
        ]
        waiting = preflight.wait_for(pod, await plan.fetch(self.api, record.namespace, needed))
        if waiting:
            record.waiting = waiting
            reason = "FailedMount" if waiting[0] == "ContainerCreating" else "Failed"
            self.events.emit(pod, reason, waiting[1], kind="Warning")
            return self._later(record, REFERENCE_SECONDS)
        live = await self.api.get(pod_path(record))
        if live["metadata"]["uid"] != record.uid or live["metadata"].get("deletionTimestamp"):
            return None
        self.records.of(live)
        if record.job_id is None and record.attempt:
            await self.adopt(live, record, user=decision.user)
        if record.job_id is not None:
            self.follow(record)
            return None
        if record.unsettled:
            record.unsettled = False
            record.retry_at = time.monotonic() + SETTLE_SECONDS
            return SETTLE_SECONDS
        cordoned = self.cordoned()
        if cordoned is None:
            return UNKNOWN_SECONDS
        if cordoned:
            return self._held_back(live, record)
        return await self._submit(live, record, decision)

    def follow(self, record: Record) -> None:
        """Track a record's job, and remember it beyond the life of this process."""
        if record.job_id is None or self.watch.tracks(record.job_id):
            return
        self.journal.write(self._entry(record, record.job_id))
        self.watch.track(record.job_id, lambda: self.touch(record))

    async def find_again(self, pod: Mapping[str, Any], record: Record) -> None:
        """Look for a job of this pod that is not written on it.

        Raises:
            CommandError: Slurm did not answer, or it is not known now whose the job would be.
        """
        user = record.user
        if not user:
            decision = await self._decide(pod, record)
            if decision is None:
                raise CommandError(record.waiting[1])
            user = decision.user
        if user:
            await self.adopt(pod, record, user=user)

    async def adopt(self, pod: Mapping[str, Any], record: Record, *, user: str) -> None:
        """Take over a job of an earlier attempt, found by its name among the user's jobs.

        Raises:
            CommandError: Slurm did not answer.
        """
        uid = await uid_of(user)
        if uid is None:
            return
        name = job_name(uid=record.uid, namespace=record.namespace, pod=record.name)
        comments = {
            job_comment(
                cluster=self.cluster,
                namespace=record.namespace,
                pod=record.name,
                uid=record.uid,
                attempt=attempt,
            )
            for attempt in range(max(record.attempt - MAX_ATTEMPTS, 0), record.attempt + 1)
        }
        named = await self.slurm.named(user=user, name=name)
        # Users can edit both name and comment, but not whose a job is.
        found = [
            job
            for job in named
            if self._may_be_ours(job, uid) and await self.slurm.comment(job.job_id) in comments
        ]
        if not found:
            created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
            past = await self.slurm.past_named(
                user=user, name=name, since=int(created.timestamp()) - SKEW_SECONDS
            )
            known = {job.job_id for job in named}
            found = [
                job
                for job in past
                if self._may_be_ours(job, uid) and _ended(job) and job.job_id not in known
            ]
        if not found:
            return
        # Of two that live the one that runs: it may have its plan already.
        chosen = max(found, key=lambda job: (not _ended(job), bool(job.nodes), -job.job_id))
        record.user, record.job_id = user, chosen.job_id
        log.info("%s: found again as job %d", record.key, chosen.job_id)
        for job in found:
            if job.job_id != chosen.job_id and not _ended(job):
                await self.cancel(record.namespace, job.job_id)

    def _may_be_ours(self, job: JobFacts, uid: int) -> bool:
        # Slurm keeps a job that sbatch was refused, as FAILED and without a node.
        ran = job.nodes or not _ended(job)
        return bool(ran) and job.uid == uid and self.records.owner(job.job_id) is None

    async def cancel(self, namespace: str, job_id: int) -> bool:
        """Ask for scancel; False means to ask again later."""
        try:
            answer, _ = await self.broker.ask(Cancel(namespace=namespace, job_id=job_id))
        except BrokerError as error:
            log.warning("%s: job %d is not cancelled: %s", namespace, job_id, error)
            return False
        if answer.error:
            log.warning("%s: job %d is not cancelled: %s", namespace, job_id, answer.error)
        self.watch.poke()
        return answer.error is None

    async def _decide(self, pod: Mapping[str, Any], record: Record) -> Verdict | None:
        try:
            decision = preflight.decide(
                pod,
                identities=self.identities.current(),
                policy=self.config.request,
                engines=self.config.engines,
                partition=self.node.partition,
                sizes=largest(self.inventory()) if self.node.partition else {},
            )
            if decision.errors or await uid_of(decision.user) is not None:
                return decision
            message = (
                f"user {decision.user!r} does not exist here; the administrator has to"
                " make the user or to correct the identity map"
            )
        except ConfigError as error:
            message = f"the identity map cannot be used, the administrator has to mend it: {error}"
        except TimeoutError:
            message = "the name service does not answer; ask the administrator if that lasts"
        log.error("%s: %s", record.key, message)
        self.events.emit(pod, "SubmitBackOff", message, kind="Warning")
        record.waiting = ("SubmitBackOff", message)
        return None

    async def _submit(self, pod: Object, record: Record, decision: Verdict) -> float | None:
        record.attempt += 1
        record.user = decision.user
        options = dict(decision.options)
        intent = {
            ATTEMPT_ANNOTATION: str(record.attempt),
            REQUEST_ANNOTATION: json.dumps(options, sort_keys=True, separators=(",", ":")),
        }
        # Written before sbatch: an agent that dies in between will look for the job.
        await self._annotate(record, intent)
        token = podproto.token(
            key=self.key, uid=record.uid, attempt=record.attempt, user=decision.user
        )
        request = Submit(
            namespace=record.namespace,
            pod=record.name,
            uid=record.uid,
            attempt=record.attempt,
            options=options,
            agent=f"{self.config.address}:{self.config.supervisor_port}",
            token=token,
            grace_seconds=grace_seconds(pod),
            sandbox="net" if self.config.pod_network and not uses_host_network(pod) else "host",
        )
        try:
            answer, _ = await self.broker.ask(request)
        except BrokerError as error:
            return self._failed(pod, record, str(error))
        if answer.job_id is None:
            message = answer.error or "no job id"
            if answer.retry:
                told = unanswered(message) if is_silence(message) else message
                return self._failed(pod, record, told)
            message = explain(
                message, options=options, user=decision.user, inventory=self.inventory()
            )
            return self._refused(pod, record, message)
        if record.job_id not in (None, answer.job_id):
            # A job of an earlier attempt said hello in the meantime.
            await self.cancel(record.namespace, answer.job_id)
            return None
        record.job_id = answer.job_id
        record.failures = 0
        self.follow(record)
        log.info("%s: job %d of user %s", record.key, answer.job_id, record.user)
        if self.records.get(record.uid) is not record:
            # Deleted by force in the meantime: nobody will come back to this pod.
            self.orphaned(self._entry(record, answer.job_id))
            return None
        await self._annotate(record, {JOB_ID_ANNOTATION: str(answer.job_id)})
        for warning in decision.warnings:
            self.events.emit(pod, "SlurmRequest", warning, kind="Warning")
        self.events.emit(pod, "SlurmSubmitted", f"Submitted Slurm job {answer.job_id}")
        return None

    async def _annotate(self, record: Record, annotations: Mapping[str, str]) -> None:
        body = {"metadata": {"uid": record.uid, "annotations": dict(annotations)}}
        await self.api.patch(f"{pod_path(record)}/status", body, content_type=STRATEGIC)

    def _entry(self, record: Record, job_id: int) -> Entry:
        return Entry(
            uid=record.uid,
            namespace=record.namespace,
            name=record.name,
            job_id=job_id,
            node=self.node.name,
        )

    def _held_back(self, pod: Mapping[str, Any], record: Record) -> float:
        message = (
            f"node {self.node.name} is cordoned: it takes no new pods until the administrator says"
            f" kubectl uncordon {self.node.name}"
        )
        if record.waiting[0] != CORDONED:
            self.events.emit(pod, CORDONED, message, kind="Warning")
        record.waiting = (CORDONED, message)
        return CORDONED_SECONDS

    def _refused(self, pod: Mapping[str, Any], record: Record, message: str) -> float | None:
        self.events.emit(pod, "SlurmRejected", message, kind="Warning")
        record.waiting = ("SlurmRejected", message)
        record.refused = pod["spec"].get("restartPolicy") == "Never"
        return None if record.refused else self._later(record, RETRY_SECONDS)

    def _failed(self, pod: Mapping[str, Any], record: Record, message: str) -> float:
        record.unsettled = True
        self.events.emit(pod, "SubmitBackOff", message, kind="Warning")
        record.waiting = ("SubmitBackOff", message)
        return self._later(record, RETRY_SECONDS)

    def _later(self, record: Record, bounds: tuple[float, float]) -> float:
        low, high = bounds
        pause = min(high, low * 2.0 ** min(record.failures, 10)) * random.uniform(0.9, 1.1)
        record.failures += 1
        record.retry_at = time.monotonic() + pause
        return pause


def _ended(job: JobFacts) -> bool:
    return observe(job.state).meaning is Meaning.ENDED
