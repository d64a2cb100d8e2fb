"""The agent's end of the broker's socket."""

import asyncio

from slurmlet.contracts.brokerproto import (
    Answer,
    ReadLog,
    Request,
    Submit,
    decode_answer,
    encode_request,
)
from slurmlet.contracts.codec import CodecError

SUBMIT_SECONDS = 75
"""Above what the broker itself allows sbatch, so that its verdict is heard."""
OTHER_SECONDS = 60
CONCURRENCY = 16
"""Requests at once, as many as the broker carries out at once."""


class BrokerError(Exception):
    """No answer of the broker: it is not known whether the request was carried out."""


class Broker:
    """One request and one answer per connection to the socket at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def ask(self, request: Request) -> tuple[Answer, bytes]:
        """The broker's answer, and a file's bytes for ReadLog.

        Raises:
            BrokerError: the broker cannot be reached, or its answer cannot be read.
        """
        seconds = SUBMIT_SECONDS if isinstance(request, Submit) else OTHER_SECONDS
        async with self._slots:
            try:
                async with asyncio.timeout(seconds):
                    return await self._ask(request)
            except TimeoutError:
                raise BrokerError(f"the broker did not answer in {seconds} s") from None
            except (
                OSError,
                ValueError,
                CodecError,
                asyncio.IncompleteReadError,
                asyncio.LimitOverrunError,
            ) as error:
                # An answer never quotes what was asked, so the message holds no token.
                raise BrokerError(f"broker at {self._path}: {error}") from None

    async def _ask(self, request: Request) -> tuple[Answer, bytes]:
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(encode_request(request))
            await writer.drain()
            answer = decode_answer(await reader.readuntil(b"\n"))
            if not isinstance(request, ReadLog):
                return answer, b""
            if answer.size > request.limit:
                raise ValueError("an answer that is longer than what was asked for")
            return answer, await reader.readexactly(answer.size)
        finally:
            writer.close()
