"""One pod at a time: what the pod needs now, from what is known now."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slurmlet.common.kube import STRATEGIC, Api, ApiError, Object
from slurmlet.contracts.names import JOB_STATE_ANNOTATION
from slurmlet.contracts.podproto import Ack, Status, Stop
from slurmlet.kubelet import finding, podstatus
from slurmlet.kubelet.brokerclient import Broker
from slurmlet.kubelet.events import Events
from slurmlet.kubelet.jobwatch import JobWatch
from slurmlet.kubelet.pending import only_words, says, wait_of
from slurmlet.kubelet.podstatus import Known
from slurmlet.kubelet.records import Journal, Record, Records
from slurmlet.kubelet.servicewatch import Updates
from slurmlet.kubelet.slurm.process import CommandError
from slurmlet.kubelet.slurm.query import JobFacts, Slurm
from slurmlet.kubelet.slurm.refusal import unanswered
from slurmlet.kubelet.slurm.states import Meaning, observe
from slurmlet.kubelet.submit import SETTLE_SECONDS, Submitter, pod_path

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""For a supervisor to connect again before its job is cancelled instead."""
SLACK_SECONDS = 15.0
"""Beyond the grace period, for the last status and the end of the job."""
LINGER_SECONDS = 60.0
"""For a job to end by itself after its pod's final status."""
CANCEL_SECONDS = 20.0
"""Between two scancels of one job."""
ENDING_SECONDS = 1.0
"""Between looks at a job that is about to end and that somebody waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """`store` holds the pods of this node by key, as the API server last said."""

    api: Api
    store: Mapping[str, Object]
    records: Records
    journal: Journal
    watch: JobWatch
    slurm: Slurm
    broker: Broker
    events: Events
    submitter: Submitter
    updates: Updates

    async def sync(self, key: str) -> float | None:
        """Bring one pod further; the result is when to look again, in seconds.

        Raises:
            ApiError, UnreachableError, CommandError: somebody did not do their part; try again.
        """
        pod = self.store.get(key)
        if pod is None:
            return None
        record = self.records.of(pod)
        if pod["metadata"].get("deletionTimestamp"):
            return await self._delete(pod, record)
        if record.over:
            return None
        if podstatus.phase_of(pod) in podstatus.TERMINAL:
            return await self._see_out(pod, record)
        return await self._run(pod, record)

    async def _run(self, pod: Object, record: Record) -> float | None:
        pause: float | None = None
        if record.job_id is None and not record.refused:
            pause = await self._submit(pod, record)
        job = self._job(record)
        if record.job_id is not None and job is None:
            # After a restart nothing is written before Slurm was asked.
            return None
        seen = podstatus.seen_of(pod, job, record.report) if job else None
        ended = seen is not None and seen.meaning is Meaning.ENDED
        if job and ended and not await self._details(record, job):
            return finding.LEAST_PATIENCE_SECONDS / 3
        if job and ended and not record.report_is_final:
            job = record.facts = await finding.with_exit_code(self.slurm, job)
        if job and seen and seen.queued:
            pause = self._wait(pod, record, job)
        pause = _sooner(pause, await self._write(pod, record, job))
        if job and observe(job.state).meaning is Meaning.ENDED:
            self._finish(record)
            return None
        if ended or record.report_is_final:
            return ENDING_SECONDS
        try:
            await self.updates.tell(pod, record)
        except (ConnectionError, TimeoutError) as error:
            log.info("%s: not told of Services: %s", record.key, error)
        return pause

    async def _submit(self, pod: Object, record: Record) -> float | None:
        try:
            return await self.submitter.advance(pod, record)
        except CommandError as error:
            record.waiting = ("SubmitBackOff", unanswered(str(error)))
            await self._write(pod, record, None)
            raise

    def _wait(self, pod: Object, record: Record, job: JobFacts) -> float | None:
        """Say once, also across restarts, what no waiting helps; the result is when what the pod
        says of its start has passed, in seconds."""
        now = time.time()
        wait = wait_of(pod, job, now=now)
        if wait.reason and wait.reason.lasting and (job.job_id, wait.reason) not in record.warned:
            record.warned |= {(job.job_id, wait.reason)}
            if not says(pod, wait.message):
                message = f"Slurm job {job.job_id} will not start as it is: {wait.why}"
                self.events.emit(pod, "SlurmPending", message, kind="Warning")
        return None if wait.start is None else wait.start - now + 1

    async def _see_out(self, pod: Object, record: Record) -> float | None:
        """A pod whose phase is final: its job has to end, too."""
        if record.job_id is None or _job_has_ended(pod):
            self._finish(record)
            return None
        await self._acknowledge(record)
        job = self._job(record)
        if job is None:
            return None
        meaning = observe(job.state).meaning
        await self._write(pod, record, job)
        if meaning is Meaning.ENDED:
            self._finish(record)
            return None
        now = time.monotonic()
        record.final_at = record.final_at or now
        # A job that waits after its pod ended was requeued, and would start in vain.
        if meaning is Meaning.WAITING or now - record.final_at > LINGER_SECONDS:
            await self._cancel(record)
            return CANCEL_SECONDS
        self.watch.poke()
        return ENDING_SECONDS

    async def _delete(self, pod: Object, record: Record) -> float | None:
        """Stop what runs, wait for Slurm's word that it ended, and let the pod go."""
        if record.deletion_seen is None:
            record.deletion_seen = time.monotonic()
        if record.over or _job_has_ended(pod):
            return await self._let_go(pod, record)
        if record.job_id is None and record.attempt and not record.refused:
            await self.submitter.find_again(pod, record)
            if record.job_id is None and record.unsettled:
                record.unsettled = False
                return SETTLE_SECONDS
        if record.job_id is None:
            return await self._let_go(pod, record)
        job = self._job(record)
        meaning = observe(job.state).meaning if job else Meaning.UNCHANGED
        if job and meaning is Meaning.ENDED:
            if not record.report_is_final and job.nodes:
                record.report = await self._exit_record(record) or record.report
            self._finish(record)
            return await self._let_go(pod, record)
        if record.report_is_final or record.session:
            # What the supervisor says on the way out is worth to be seen.
            await self._write(pod, record, job)
        left = _deadline(pod) - time.time()
        waited = time.monotonic() - record.deletion_seen
        unheard = record.session is None or left < -SLACK_SECONDS
        # A suspended supervisor hears nothing; scancel resumes its job, which then has KillWait.
        deaf = meaning in (Meaning.WAITING, Meaning.SUSPENDED)
        if deaf or (unheard and waited > ANSWER_SECONDS):
            await self._cancel(record)
        elif record.session and not record.report_is_final:
            await self._stop(pod, record, grace=max(left, 0.0))
        if record.report_is_final or record.cancelled_at:
            self.watch.poke()
            return ENDING_SECONDS
        return ANSWER_SECONDS

    async def _let_go(self, pod: Object, record: Record) -> float | None:
        """Write how everything ended, then delete the object: a Job counts what it saw end."""
        self._finish(record)
        await self._write(pod, record, record.facts, gone=True)
        if pod["metadata"].get("deletionGracePeriodSeconds") == 0:
            # Only a finalizer of somebody else still holds it.
            return None
        try:
            await self.api.delete(pod_path(record), uid=record.uid, grace_seconds=0)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
        return None

    async def _write(
        self, pod: Object, record: Record, job: JobFacts | None, *, gone: bool = False
    ) -> float | None:
        """Make the pod say what is known; the result is when to try again what can wait, in
        seconds."""
        known = Known(
            waiting=record.waiting,
            refused=record.refused,
            job=job,
            report=record.report,
            ip=record.ip,
            host_ip=record.host_ip,
            gone=gone,
        )
        written = record.report
        status = podstatus.wanted(pod, known, now=podstatus.timestamp(time.time()))
        patch = podstatus.patch_for(pod, status, podstatus.annotations_for(job))
        if patch and job and observe(job.state).queued and only_words(patch):
            delay = record.changes.delay(time.monotonic())
            if delay:
                return delay
        if patch:
            try:
                await self.api.patch(f"{pod_path(record)}/status", patch, content_type=STRATEGIC)
            except ApiError as error:
                if error.status != 404:
                    raise
        await self._acknowledge(record, written)
        return None

    async def _acknowledge(self, record: Record, written: Status | None = None) -> None:
        """Tell the supervisor that its last words are safe."""
        final = written or record.report
        if final and final.final and record.session:
            try:
                await record.session.send(Ack(seq=final.seq))
            except (ConnectionError, TimeoutError) as error:
                log.info("%s: final status not acknowledged yet: %s", record.key, error)

    def _job(self, record: Record) -> JobFacts | None:
        if record.job_id is not None and not record.over:
            self.submitter.follow(record)
            record.facts = self.watch.facts(record.job_id) or record.facts
        return record.facts

    async def _details(self, record: Record, job: JobFacts) -> bool:
        """Whether all is known of an ended job that ever will be."""
        now = time.monotonic()
        record.ended_at = record.ended_at or now
        if record.report_is_final or not job.nodes:
            return True
        found = await self._exit_record(record)
        if found:
            record.report = found
            return True
        return now - record.ended_at >= finding.patience(job.state)

    async def _exit_record(self, record: Record) -> Status | None:
        return await finding.exit_record(self.broker, namespace=record.namespace, uid=record.uid)

    async def _stop(self, pod: Object, record: Record, *, grace: float) -> None:
        stamp = pod["metadata"]["deletionTimestamp"]
        session = record.session
        if session is None or record.stopped_for == (stamp, id(session)):
            return
        try:
            await session.send(Stop(grace=grace, reason="the pod is deleted"))
        except (ConnectionError, TimeoutError):
            return
        record.stopped_for = (stamp, id(session))

    async def _cancel(self, record: Record) -> None:
        now = time.monotonic()
        if record.job_id is None:
            return
        if record.cancelled_at is not None and now - record.cancelled_at < CANCEL_SECONDS:
            return
        if await self.submitter.cancel(record.namespace, record.job_id):
            record.cancelled_at = now

    def _finish(self, record: Record) -> None:
        record.over = True
        if record.job_id is not None:
            self.watch.untrack(record.job_id)
        self.journal.remove(record.uid)


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((pause for pause in (one, other) if pause is not None), default=None)


def _job_has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether the pod itself says that its job has ended, from before a restart."""
    state = (pod["metadata"].get("annotations") or {}).get(JOB_STATE_ANNOTATION, "")
    return observe(state).meaning is Meaning.ENDED


def _deadline(pod: Mapping[str, Any]) -> float:
    """When the grace period ends, in seconds since the epoch: deletionTimestamp includes it."""
    return datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]).timestamp()
