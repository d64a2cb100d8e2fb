"""One supervisor's control connection."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from slurmlet.contracts.podproto import (
    Ack,
    Bye,
    Event,
    FromAgent,
    Hello,
    Message,
    NeedPlan,
    Plan,
    ProtocolError,
    Status,
    StreamFailed,
    Update,
    decode_message,
    encode_message,
    encode_plan,
)

log = logging.getLogger(__name__)

HELLO_SECONDS = 10
BURST = 200
"""Messages that a supervisor may say at once: a pod's start are some tens, one for each change."""
PER_SECOND = 20.0
"""Messages beyond that: what more comes waits in its own connection."""
SEND_SECONDS = 30
"""A supervisor that does not read for so long is cut off and connects anew."""


@dataclass(slots=True, eq=False)
class Connection:
    """The WebSocket of a supervisor, after or before its hello was believed."""

    socket: web.WebSocketResponse
    token: str
    peer: str
    ignored: int = 0
    told: Update | None = None
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def send(self, message: FromAgent) -> None:
        """Raises ConnectionError or TimeoutError when the supervisor does not take it."""
        async with self._sending:
            await self._send(message)

    async def send_plan(self, plan: Plan) -> None:
        """Raises ProtocolError for a plan that is too large, else as `send`."""
        async with self._sending:
            for chunk in encode_plan(plan):
                await self._send(chunk)

    async def hello(self) -> Hello | None:
        """The first message, or None if it is no hello or does not come in time."""
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                message = await self.receive()
        except (TimeoutError, ProtocolError):
            return None
        return message if isinstance(message, Hello) else None

    async def receive(self) -> Message | None:
        """The next message that is understood, or None at the end.

        Raises:
            ProtocolError: the peer does not keep to the protocol.
        """
        while True:
            frame = await self.socket.receive()
            if frame.type is not WSMsgType.TEXT:
                return None
            unknown: list[str] = []
            message = decode_message(frame.data, unknown=unknown)
            self.ignored += len(unknown)
            if message is not None:
                return message

    async def bye(self, reason: str) -> None:
        """Tell the supervisor to end, if it still listens."""
        with suppress(ConnectionError, TimeoutError):
            await self.send(Bye(reason=reason))

    async def _send(self, message: FromAgent) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self.socket.send_str(encode_message(message))


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What to do with a supervisor's messages."""

    status: Callable[[Status], bool]
    event: Callable[[Event], None]
    need_plan: Callable[[], None]
    stream_failed: Callable[[StreamFailed], None]


async def listen(connection: Connection, handlers: Handlers) -> str:
    """Take messages until the supervisor hangs up; the result says why it ended.

    A status is acknowledged here when `handlers.status` says so, else later by somebody else.

    Raises:
        ProtocolError: the peer does not keep to the protocol.
    """
    pace = _Pace()
    while True:
        message = await connection.receive()
        await pace.step()
        match message:
            case None:
                return "hung up"
            case Bye():
                return f"said bye: {message.reason}"
            case Status():
                if handlers.status(message):
                    await connection.send(Ack(seq=message.seq))
            case Event():
                handlers.event(message)
            case NeedPlan():
                handlers.need_plan()
            case StreamFailed():
                handlers.stream_failed(message)
            case _:
                raise ProtocolError("message: not one that a supervisor sends")


class _Pace:
    """Lets a burst pass, then as many as its rate: a user may speak in place of his supervisor."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = time.monotonic()

    async def step(self) -> None:
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * PER_SECOND, BURST) - 1
        self._at = now
        if self._left < 0:
            await asyncio.sleep(-self._left / PER_SECOND)
