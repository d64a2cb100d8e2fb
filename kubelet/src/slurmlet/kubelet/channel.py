"""The port that supervisors dial: hello → plan → status, and streams."""

import asyncio
import logging
import re
import socket as sockets
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from slurmlet.common.kube import Api, ApiError, Object, UnreachableError
from slurmlet.contracts import audit
from slurmlet.contracts.audit import BYE, PLAN, Act
from slurmlet.contracts.podproto import (
    CONTROL_PATH,
    MAX_MESSAGE,
    STREAM_PATH,
    Event,
    Hello,
    Plan,
    ProtocolError,
    Status,
)
from slurmlet.kubelet import hello as hellos
from slurmlet.kubelet import plan, podstatus
from slurmlet.kubelet.address import Decoder, RecordError, proved, uses_host_network
from slurmlet.kubelet.events import Events
from slurmlet.kubelet.hello import Verdict
from slurmlet.kubelet.identities import name_of, uid_of
from slurmlet.kubelet.jobwatch import JobWatch
from slurmlet.kubelet.plan import Surroundings
from slurmlet.kubelet.records import Record, Records
from slurmlet.kubelet.session import Connection, Handlers, listen
from slurmlet.kubelet.slurm.process import CommandError
from slurmlet.kubelet.slurm.query import JobFacts
from slurmlet.kubelet.slurm.states import REQUEUED
from slurmlet.kubelet.streams import Streams

log = logging.getLogger(__name__)

PLAN_RETRY_SECONDS = 5
UNPROVED = 64
"""Connections without the token of a pod that is known here; each may cost a question to Slurm."""
DIALLING = 4
"""Connections with a pod's token whose hello was not believed yet: a supervisor has one, and one
more when the network swallowed that."""
HEARTBEAT_SECONDS = 20
NO_SANDBOX = "FailedCreatePodSandBox"
MAX_PROBLEM = 500
"""Characters of what a supervisor says about its sandbox, as many as the prolog writes."""
_BEARER = re.compile(r"Bearer ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """`api_of` is the API server as the node of a pod may ask it. `pod_of` finds a pod of the store
    by UID, `touch` asks for work on a record; `stranger` is told of an authentic job (pod UID, job
    id) whose pod is not in the store, `duplicate` of one whose pod has another job (namespace, job
    id). `node_address` is Slurm's name for a node's
    address, `node_names` are all of its names, `user_of` the user of a namespace's pods, empty if
    nobody knows. `pod_network` says that a pod must prove an address unless it asks for its node's
    network."""

    api_of: Callable[[Object], Api]
    records: Records
    watch: JobWatch
    events: Events
    streams: Streams
    key: bytes
    surroundings: Surroundings
    decoder: Decoder
    pod_network: bool
    synced: asyncio.Event
    pod_of: Callable[[str], Object | None]
    engine_of: Callable[[Object], str]
    node_address: Callable[[str], str]
    user_of: Callable[[str], str]
    node_names: Callable[[str], Collection[str]]
    touch: Callable[[Record], None]
    stranger: Callable[[str, int], Awaitable[None]]
    duplicate: Callable[[str, int], Awaitable[bool]]
    unproved: asyncio.Semaphore
    dialling: Counter[str] = field(default_factory=Counter)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get(CONTROL_PATH, self._control)
        app.router.add_get(STREAM_PATH, self._stream)
        return app

    async def serve(self, *, address: str, port: int, context: ssl.SSLContext) -> None:
        """Listen until cancelled.

        Raises:
            OSError: the address is in use or not this host's.
        """
        # Supervisors connect again by themselves: nothing is worth waiting for at the end.
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, port, ssl_context=context).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        bearer = _bearer(request)
        if bearer is None:
            return web.Response(status=401, text="no bearer token")
        return await self.streams.serve(request, token=bearer)

    async def _control(self, request: web.Request) -> web.StreamResponse:
        bearer = _bearer(request)
        if bearer is None:
            return web.Response(status=401, text="no bearer token")
        uid, peer = request.match_info["uid"], request.remote or ""
        # Whoever has no token of ours must not be able to keep out those who have.
        proved = self._has_token(uid, bearer)
        full = self.dialling[uid] >= DIALLING if proved else self.unproved.locked()
        if full or not self.synced.is_set():
            return web.Response(status=503, text="busy; try again")
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_MESSAGE, compress=False
        )
        async with self._counted(uid) if proved else self.unproved:
            await socket.prepare(request)
            connection = Connection(socket, bearer, peer)
            said = await connection.hello()
            record = await self._believed(uid, connection, said) if said else None
        if record is None or said is None:
            await socket.close()
            return socket
        await self._converse(record, connection, planned=said.planned)
        return socket

    def _has_token(self, uid: str, bearer: str) -> bool:
        record = self.records.get(uid)
        if record is None:
            return False
        users = {record.user or self.user_of(record.namespace)} - {""}
        attempt = hellos.attempt_of(
            bearer, uid=uid, key=self.key, users=users, attempts=record.attempt
        )
        return attempt is not None

    @asynccontextmanager
    async def _counted(self, uid: str) -> AsyncIterator[None]:
        self.dialling[uid] += 1
        try:
            yield
        finally:
            self.dialling[uid] -= 1
            if not self.dialling[uid]:
                del self.dialling[uid]

    async def _believed(self, uid: str, connection: Connection, said: Hello) -> Record | None:
        """The record that the connection may serve; None after it was turned away."""
        record = self.records.get(uid)
        try:
            job = await self.watch.fresh(said.job_id)
            users = await _users(job, record.user if record else "")
            # Only names that Slurm says: a peer's own could keep resolver and threads busy.
            here = job is not None and job.nodes == said.host
            addresses = await _resolve(self.node_address(said.host)) if here else set()
        except (CommandError, TimeoutError, OSError) as error:
            log.info("hello of pod %s, job %d: cannot be judged now: %s", uid, said.job_id, error)
            return None
        answer = hellos.authentic(
            said,
            bearer=connection.token,
            uid=uid,
            key=self.key,
            job=job,
            users=users,
            peer=connection.peer,
            addresses=addresses,
            attempts=record.attempt if record else hellos.MAX_ATTEMPTS,
        )
        if answer.verdict is not Verdict.ACCEPT:
            log.warning("hello of pod %s, job %d: %s", uid, said.job_id, answer.reason)
            return None
        pod = self.pod_of(uid)
        if pod is None:
            await self._strange(uid, said.job_id)
            return None
        record = self.records.of(pod)
        finished = podstatus.phase_of(pod) in podstatus.TERMINAL
        answer = hellos.claim(said, known_job=record.job_id, finished=finished)
        if answer.verdict is not Verdict.ACCEPT:
            await self._dismiss(record, said.job_id, connection, answer.reason)
            await self.duplicate(record.namespace, said.job_id)
            await connection.socket.close()
            return None
        record.job_id = said.job_id
        try:
            if podstatus.begun(pod, record.report) and not said.planned:
                raise _RequeuedError(f"Slurm started job {said.job_id} again; one job is one try")
            record.ip = await self._address(pod, connection, said, uid=job.uid if job else -1)
        except CommandError as error:
            why = f"The pod's address cannot be proved now: {error}"
            self.events.emit(pod, NO_SANDBOX, why, kind="Warning")
            return None
        except RecordError as error:
            await self._give_up(pod, record, connection, reason=NO_SANDBOX, why=str(error))
            return None
        except _RequeuedError as error:
            await self._give_up(pod, record, connection, reason=REQUEUED.reason, why=str(error))
            await self.duplicate(record.namespace, said.job_id)
            return None
        record.host_ip = connection.peer
        return record

    async def _strange(self, uid: str, job_id: int) -> None:
        try:
            await self.stranger(uid, job_id)
        except CommandError as error:
            log.info("job %d of pod %s: cannot be judged now: %s", job_id, uid, error)

    async def _address(self, pod: Object, connection: Connection, said: Hello, *, uid: int) -> str:
        """The pod's own address, or its node's if it has none.

        Raises:
            RecordError: it must have one and cannot prove it.
            _RequeuedError: the pod has another, of an earlier start of this job.
            CommandError: the proof cannot be looked at now.
        """
        known = str((pod.get("status") or {}).get("podIP") or "")
        if known and said.planned:
            # Of this supervisor: no other was ever believed. The agent may have been away since.
            return known
        found = await self._proved(pod, connection, said, uid=uid)
        if known not in ("", found):
            raise _RequeuedError(f"job {said.job_id} has the address {found}, its pod {known}")
        return found

    async def _proved(self, pod: Object, connection: Connection, said: Hello, *, uid: int) -> str:
        if uses_host_network(pod) or not self.pod_network:
            return connection.peer
        if said.record is None:
            why = said.problem or "its node has signed no record of one: see the node's slurmd log"
            raise RecordError(f"the pod has no sandbox: {why[:MAX_PROBLEM]}")
        own = proved(
            await self.decoder.decode(said.record),
            job=said.job_id,
            uid=uid,
            pod_uid=pod["metadata"]["uid"],
            hosts=self.node_names(said.host),
        )
        return own or connection.peer

    async def _give_up(
        self, pod: Object, record: Record, connection: Connection, *, reason: str, why: str
    ) -> None:
        """Send the supervisor away and end the pod: another try would be on the same terms."""
        log.warning("%s: job %s gets no plan: %s", record.key, record.job_id, why)
        self.events.emit(pod, reason, why, kind="Warning")
        record.report = Status(
            seq=0, phase="Failed", containers=(), final=True, reason=reason, message=why
        )
        self.touch(record)
        await self._dismiss(record, record.job_id or 0, connection, why)

    async def _dismiss(self, record: Record, job_id: int, connection: Connection, why: str) -> None:
        log.info(
            "%s", audit.line(Act(what=BYE, job=job_id, pod=record.key, uid=record.uid, reason=why))
        )
        await connection.bye(why)

    async def _converse(self, record: Record, connection: Connection, *, planned: bool) -> None:
        if isinstance(record.session, Connection):
            await record.session.socket.close()
        record.session = connection
        self.touch(record)
        log.info("%s: job %s says hello from %s", record.key, record.job_id, connection.peer)
        wanted = asyncio.Event()
        handlers = Handlers(
            status=lambda status: self._reported(record, status),
            event=lambda event: self._happened(record, event),
            need_plan=wanted.set,
            stream_failed=lambda failed: self.streams.failed(connection, failed.id, failed.message),
        )
        planning = asyncio.create_task(
            self._plans(record, connection, wanted=wanted, planned=planned)
        )
        try:
            ended = await listen(connection, handlers)
        except ProtocolError as error:
            ended = f"broke the protocol: {error}"
        except (ConnectionError, TimeoutError):
            ended = "does not read"
        finally:
            planning.cancel()
            if record.session is connection:
                record.session = None
            self.touch(record)
        await asyncio.gather(planning, return_exceptions=True)
        log.info("%s: supervisor of job %s %s", record.key, record.job_id, ended)
        await connection.socket.close()

    async def _plans(
        self, record: Record, connection: Connection, *, wanted: asyncio.Event, planned: bool
    ) -> None:
        """Give the supervisor its plan, and again whenever it asks."""
        if not planned:
            await self._plan(record, connection)
        while True:
            await wanted.wait()
            wanted.clear()
            pod = self.pod_of(record.uid)
            if pod is None or pod["metadata"].get("deletionTimestamp"):
                return
            try:
                await connection.send_plan(await self._made(pod, record))
            except (plan.NotReadyError, ApiError, UnreachableError, ProtocolError) as error:
                log.info("%s: no other plan: %s", record.key, error)
            except (ConnectionError, TimeoutError):
                return
            # A user may ask in place of his supervisor.
            await asyncio.sleep(PLAN_RETRY_SECONDS)

    async def _made(self, pod: Object, record: Record) -> Plan:
        return await plan.build(
            self.api_of(pod),
            pod,
            ip=record.ip,
            host_ip=record.host_ip,
            engine=self.engine_of(pod),
            surroundings=self.surroundings,
        )

    async def _plan(self, record: Record, connection: Connection) -> None:
        """Give the supervisor its plan, as soon as there is all it takes."""
        while True:
            pod = self.pod_of(record.uid)
            if pod is None:
                return
            if pod["metadata"].get("deletionTimestamp"):
                await self._dismiss(record, record.job_id or 0, connection, "the pod is deleted")
                await connection.socket.close()
                return
            try:
                made = await self._made(pod, record)
                # Before it is sent: of a plan that was received there is always a line.
                log.info("%s", audit.line(_planned(record)))
                await connection.send_plan(made)
                return
            except plan.NotReadyError as error:
                self.events.emit(pod, "FailedMount", str(error), kind="Warning")
            except (ApiError, UnreachableError) as error:
                log.warning("%s: no plan yet: %s", record.key, error)
            except ProtocolError as error:
                self.events.emit(pod, "FailedMount", str(error), kind="Warning")
                await self._dismiss(record, record.job_id or 0, connection, str(error))
                await connection.socket.close()
                return
            except (ConnectionError, TimeoutError):
                await connection.socket.close()
                return
            await asyncio.sleep(PLAN_RETRY_SECONDS)

    def _reported(self, record: Record, status: Status) -> bool:
        """Keep a status; True if it may be acknowledged before the API server has it, or if there
        is no pod any more that it could be written to."""
        if record.report is None or status.seq > record.report.seq:
            record.report = status
        self.touch(record)
        return not status.final or self.pod_of(record.uid) is None

    def _happened(self, record: Record, event: Event) -> None:
        pod = self.pod_of(record.uid)
        if pod is not None:
            self.events.emit(
                pod, event.reason, event.message, kind=event.kind, container=event.container
            )


class _RequeuedError(Exception):
    """The job had the pod before, in an earlier start of its own."""


def _planned(record: Record) -> Act:
    return Act(what=PLAN, job=record.job_id or 0, pod=record.key, uid=record.uid, user=record.user)


def _bearer(request: web.Request) -> str | None:
    match = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    return match[1] if match else None


async def _users(job: JobFacts | None, submitted_as: str) -> set[str]:
    """The names of a job's owner: several accounts may share a uid."""
    if job is None:
        return set()
    names = {await name_of(job.uid) or ""}
    if submitted_as and await uid_of(submitted_as) == job.uid:
        names.add(submitted_as)
    return names - {""}


async def _resolve(name: str) -> set[str]:
    """The addresses of a host name. Raises OSError when there are none."""
    loop = asyncio.get_running_loop()
    found = await asyncio.wait_for(
        loop.getaddrinfo(name, None, type=sockets.SOCK_STREAM), HEARTBEAT_SECONDS
    )
    return {str(item[4][0]) for item in found}
