"""The control connection: made again for ever, while the containers go on."""

import asyncio
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from slurmlet.contracts.podproto import (
    CONTROL_PATH,
    MAX_MESSAGE,
    Ack,
    Bye,
    Event,
    Hello,
    NeedPlan,
    OpenStream,
    Plan,
    PlanChunk,
    ProtocolError,
    Status,
    Stop,
    StreamFailed,
    Update,
    decode_message,
    encode_message,
    join_plan,
)
from slurmlet.supervisor.config import Job
from slurmlet.supervisor.sandbox import Proof
from slurmlet.supervisor.websocket import ChannelError, WebSocket, connect

LOG = logging.getLogger("slurmlet.supervisor")
FIRST_DELAY = 0.2
LONGEST_DELAY = 15.0
"""Seconds between tries to connect: an agent that restarts has its pods back within them."""
PING_AFTER = 15.0
GIVE_UP_AFTER = 45.0
"""Seconds of silence after which a connection is asked, and given up: NATs forget silently."""
REPLAN_TIMEOUT = 10.0
"""Seconds for a plan that was asked for again; an agent that is away is asked another time."""
MAX_EVENTS = 256
"""Events kept for an agent that is away; the oldest are dropped."""


class Control:
    """Speaks for one pod. `plan` and `bye` are set by the agent's first answer."""

    def __init__(
        self,
        job: Job,
        *,
        tls: ssl.SSLContext,
        on_stop: Callable[[Stop], None],
        on_stream: Callable[[OpenStream], None],
        on_update: Callable[[Update], None],
        proof: Proof,
    ) -> None:
        self.plan: asyncio.Future[Plan | Bye] = asyncio.get_running_loop().create_future()
        self._job = job
        self._tls = tls
        self._on_stop = on_stop
        self._on_stream = on_stream
        self._on_update = on_update
        self._proof = proof
        self._status: Status | None = None
        self._acknowledged = 0
        self._acked = asyncio.Event()
        self._outgoing: deque[Event | StreamFailed] = deque(maxlen=MAX_EVENTS)
        self._news = asyncio.Event()
        self._healthy = False
        self._wants_plan = False
        self._replanned: asyncio.Future[Plan] | None = None

    def publish(self, status: Status) -> None:
        """Make this the snapshot that the agent gets; older ones need not be sent any more."""
        self._status = status
        self._news.set()

    def tell(self, message: Event | StreamFailed) -> None:
        """Send an event when the agent is there."""
        self._outgoing.append(message)
        self._news.set()

    async def replan(self) -> Plan | None:
        """Ask for the plan once more; None if it does not come soon."""
        if self._replanned is None:
            self._replanned = asyncio.get_running_loop().create_future()
            self._wants_plan = True
            self._news.set()
        answer = self._replanned
        await asyncio.wait((answer,), timeout=REPLAN_TIMEOUT)
        if self._replanned is answer:
            self._replanned, self._wants_plan = None, False
        return answer.result() if answer.done() else None

    async def acknowledged(self, sequence: int) -> None:
        """Return when the agent has stored the snapshot of this number."""
        while self._acknowledged < sequence:
            self._acked.clear()
            await self._acked.wait()

    async def run(self) -> None:
        """Keep connected; never returns."""
        delay = FIRST_DELAY
        while True:
            self._healthy = False
            try:
                await self._connection()
            except (ChannelError, ProtocolError) as error:
                LOG.warning("agent: %s", error)
            except Exception:
                LOG.exception("agent: the connection failed")
            delay = FIRST_DELAY if self._healthy else min(delay * 2, LONGEST_DELAY)
            # Jitter: the pods of a whole cluster come back at once when the agent does.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))

    async def _connection(self) -> None:
        socket = await connect(
            host=self._job.agent_host,
            port=self._job.agent_port,
            path=CONTROL_PATH.format(uid=self._job.pod_uid),
            headers={"Authorization": f"Bearer {self._job.token}"},
            tls=self._tls,
            max_message=MAX_MESSAGE,
        )
        try:
            await self._converse(socket)
        except (ChannelError, ProtocolError):
            socket.abort()
            raise
        finally:
            await socket.close()

    async def _converse(self, socket: WebSocket) -> None:
        hello = Hello(
            job_id=self._job.job_id,
            host=self._job.host,
            planned=self.plan.done(),
            record=self._proof.record,
            problem=self._proof.problem,
        )
        await socket.send(encode_message(hello))
        tasks = [
            asyncio.create_task(self._receive(socket)),
            asyncio.create_task(self._send(socket)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            # Not CancelledError, which is no Exception.
            if isinstance(result, Exception):
                raise result

    async def _send(self, socket: WebSocket) -> None:
        sent = 0
        while True:
            self._news.clear()
            while self._outgoing:
                await socket.send(encode_message(self._outgoing[0]))
                # The deque may have dropped it meanwhile.
                with suppress(IndexError):
                    self._outgoing.popleft()
            if self._wants_plan:
                self._wants_plan = False
                await socket.send(encode_message(NeedPlan()))
            if self._status and self._status.seq > sent:
                sent = self._status.seq
                await socket.send(encode_message(self._status))
            if not self._news.is_set():
                await self._news.wait()

    async def _receive(self, socket: WebSocket) -> None:
        chunks: list[PlanChunk] = []
        silence = 0.0
        while True:
            try:
                async with asyncio.timeout(PING_AFTER):
                    text = await socket.receive()
            except TimeoutError:
                silence += PING_AFTER
                if silence >= GIVE_UP_AFTER:
                    raise ChannelError("the agent is silent") from None
                await socket.ping()
                continue
            silence = 0.0
            if text is None:
                raise ChannelError("the agent ended the connection")
            if not text:
                continue
            unknown: list[str] = []
            message = decode_message(text, unknown=unknown)
            if unknown:
                LOG.info("agent: ignored %s", ", ".join(unknown[:5]))
            self._healthy = True
            if isinstance(message, PlanChunk):
                chunks.append(message)
                self._planned(chunks)
            elif isinstance(message, Bye):
                self._dismissed(message)
            elif isinstance(message, Ack):
                self._acknowledged = max(self._acknowledged, message.seq)
                self._acked.set()
            elif isinstance(message, Update):
                self._on_update(message)
            elif isinstance(message, Stop):
                self._on_stop(message)
            elif isinstance(message, OpenStream):
                self._on_stream(message)

    def _planned(self, chunks: list[PlanChunk]) -> None:
        plan = join_plan(chunks)
        if plan is None:
            return
        chunks.clear()
        if not self.plan.done():
            self.plan.set_result(plan)
        elif self._replanned and not self._replanned.done():
            self._replanned.set_result(plan)

    def _dismissed(self, bye: Bye) -> None:
        LOG.warning("agent: bye: %s", bye.reason)
        if not self.plan.done():
            self.plan.set_result(bye)
        # An agent that does not know its pods must not be asked by all of them at once.
        self._healthy = False
        raise ChannelError("dismissed")
