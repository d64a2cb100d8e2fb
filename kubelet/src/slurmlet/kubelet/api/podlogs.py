"""Where a container's log is, and its way to the client."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType

from slurmlet.contracts.brokerproto import MAX_READ, ReadLog
from slurmlet.contracts.names import log_file
from slurmlet.contracts.podproto import OpenStream
from slurmlet.kubelet import podstatus
from slurmlet.kubelet.brokerclient import Broker, BrokerError
from slurmlet.kubelet.logs import LogOptions, TailSearch
from slurmlet.kubelet.records import Records
from slurmlet.kubelet.streams import StreamError, Streams

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 10
"""For a supervisor to come back after a restart of the agent, before a file is read instead."""


class LogError(Exception):
    """A log that cannot be served; `status` is the HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def start_number(pod: Mapping[str, Any], container: str, *, previous: bool) -> int:
    """Which start of the container a request means, counted from 0.

    Raises:
        LogError: there is no such container, or it has not been started so often.
    """
    name = pod["metadata"]["name"]
    spec = pod["spec"]
    known = [item["name"] for item in [*(spec.get("initContainers") or []), *spec["containers"]]]
    if container not in known:
        raise LogError(404, f'container "{container}" not found in pod "{name}"')
    status = pod.get("status") or {}
    states = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    found: Mapping[str, Any] = next((item for item in states if item["name"] == container), {})
    state: Mapping[str, Any] = found.get("state") or {}
    count = int(found.get("restartCount", 0))
    ran_before = bool((found.get("lastState") or {}).get("terminated"))
    if "running" in state or "terminated" in state:
        if not previous:
            return count
        if count > 0:
            return count - 1
    elif ran_before:
        # Between two starts the newest log is that of the one that ended last.
        return count
    if previous:
        raise LogError(
            400, f'previous terminated container "{container}" in pod "{name}" not found'
        )
    reason = (state.get("waiting") or {}).get("reason") or "ContainerCreating"
    raise LogError(400, f'container "{container}" in pod "{name}" is waiting to start: {reason}')


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLogs:
    """Finds logs: by the supervisor while it is connected, else in the files it left."""

    records: Records
    streams: Streams
    broker: Broker

    async def lines(
        self, pod: Mapping[str, Any], container: str, options: LogOptions
    ) -> AsyncIterator[bytes]:
        """Bytes of CRI lines, those of the tail first if one is asked for.

        Raises:
            LogError: the log does not exist or cannot be read.
        """
        number = start_number(pod, container, previous=options.previous)
        record = self.records.get(pod["metadata"]["uid"])
        alive = podstatus.phase_of(pod) not in podstatus.TERMINAL
        if record and record.session is None and options.follow and alive:
            await self._reconnected(pod)
        if record and record.session:
            request = OpenStream(
                id="",
                kind="logs",
                container=container,
                follow=options.follow,
                tail_lines=options.tail_lines,
                restart_count=number,
            )
            try:
                async with self.streams.open(record.session, request) as socket:
                    async for message in socket:
                        if message.type is WSMsgType.BINARY:
                            yield message.data
                    return
            except StreamError as error:
                log.info("%s: %s; reading the file instead", record.key, error)
        async for data in self._file(pod, log_file(container, number), options.tail_lines):
            yield data

    async def _reconnected(self, pod: Mapping[str, Any]) -> None:
        for _ in range(RECONNECT_SECONDS * 2):
            record = self.records.get(pod["metadata"]["uid"])
            if record is None or record.session:
                return
            await asyncio.sleep(0.5)

    async def _file(
        self, pod: Mapping[str, Any], file: str, tail_lines: int | None
    ) -> AsyncIterator[bytes]:
        offset = 0
        _, size = await self._read(pod, file, offset=0, limit=0)
        if tail_lines is not None:
            search = TailSearch(size=size, lines=tail_lines)
            while search.offset is None:
                start, length = search.block(MAX_READ)
                data, _ = await self._read(pod, file, offset=start, limit=length)
                search.feed(start, data)
            offset = search.offset
        while offset < size:
            data, _ = await self._read(pod, file, offset=offset, limit=MAX_READ)
            if not data:
                return
            yield data
            offset += len(data)

    async def _read(
        self, pod: Mapping[str, Any], file: str, *, offset: int, limit: int
    ) -> tuple[bytes, int]:
        metadata = pod["metadata"]
        request = ReadLog(
            namespace=metadata["namespace"],
            uid=metadata["uid"],
            file=file,
            offset=offset,
            limit=limit,
        )
        try:
            answer, data = await self.broker.ask(request)
        except BrokerError as error:
            raise LogError(503, str(error)) from None
        if answer.error:
            raise LogError(500, f"the log cannot be read: {answer.error}")
        return data, answer.total
