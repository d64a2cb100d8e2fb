"""Rules in the pod's own network: what Services redirect, and what leads to the API server."""

import asyncio
import logging
from collections.abc import Callable, Iterator

from slurmlet.contracts.podproto import Event, Update
from slurmlet.supervisor.addresses import parse_address
from slurmlet.supervisor.anchor import Anchor
from slurmlet.supervisor.process import ProcessError

LOG = logging.getLogger("slurmlet.supervisor")
TABLE = "slurmlet-services"
NFT = "/usr/sbin/nft"
"""Not on the PATH of a user's job everywhere."""
TRIES = 3
PAUSE = 2.0
"""Seconds between tries: what failed for want of memory or a module may pass."""
_MAX_PORT = 65535


class Redirector:
    """Applies updates one after the other; of several that wait only the last counts. `directory`
    is one of the anchor's mount namespace."""

    def __init__(
        self, *, anchor: Anchor, directory: str, pod_ip: str, tell: Callable[[Event], None]
    ) -> None:
        self._anchor = anchor
        self._file = f"{directory}/services.nft"
        self._pod_ip = pod_ip
        self._tell = tell
        self._wanted = Update()
        self._news = asyncio.Event()

    def want(self, update: Update) -> None:
        """Make this what holds in the pod's network, soon."""
        self._wanted = update
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        applied = Update()
        while True:
            await self._news.wait()
            self._news.clear()
            update = self._wanted
            if update != applied and await self._apply(update):
                applied = update

    async def _apply(self, update: Update) -> bool:
        why = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(PAUSE)
            if self._news.is_set():
                return False
            try:
                self._anchor.path(self._file).write_text(ruleset(update, pod_ip=self._pod_ip))
                await self._anchor.run([NFT, "-f", self._file])
            except (ProcessError, OSError, ValueError) as error:
                why = str(error)
                LOG.warning("services: %s", why)
            else:
                return True
        message = f"Ports of Services are not redirected to their targetPort: {why}"
        self._tell(Event(reason="FailedServiceRedirect", message=message, kind="Warning"))
        return False


def ruleset(update: Update, *, pod_ip: str) -> str:
    """What nft -f takes: one transaction in which the new table replaces the old one.

    Raises:
        ValueError: an address or a port is none.
    """
    return "\n".join(
        [
            # Deleting a table that is not there would fail.
            f"add table inet {TABLE}",
            f"delete table inet {TABLE}",
            f"add table inet {TABLE}",
            *_chain("prerouting", "dstnat", _services(update, pod_ip=pod_ip)),
            # Connections of the pod itself pass no prerouting hook.
            *_chain("output", "-100", [*_services(update, pod_ip=pod_ip), *_forwardings(update)]),
            "",
        ]
    )


def _chain(name: str, priority: str, rules: Iterator[str] | list[str]) -> Iterator[str]:
    yield (
        f"add chain inet {TABLE} {name}"
        f" {{ type nat hook {name} priority {priority}; policy accept; }}"
    )
    for rule in rules:
        yield f"add rule inet {TABLE} {name} {rule}"


def _services(update: Update, *, pod_ip: str) -> Iterator[str]:
    """By dnat to the pod's own address: a redirect in the output hook would lead to the loopback,
    where a server that listens on its address only is not."""
    family, address = parse_address(pod_ip)
    for item in update.services:
        protocol = {"TCP": "tcp", "UDP": "udp"}.get(item.protocol)
        if protocol is None:
            raise ValueError(f"protocol {item.protocol!r} is not TCP or UDP")
        yield (
            f"{family} daddr {address} {protocol} dport {_port(item.port)}"
            f" dnat {family} to {_place(address, item.target_port)}"
        )


def _forwardings(update: Update) -> Iterator[str]:
    for item in update.forwardings:
        family, address = parse_address(item.address)
        to_family, to_address = parse_address(item.to_address)
        if family != to_family:
            raise ValueError(f"{address} and {to_address} are of two families")
        yield (
            f"{family} daddr {address} tcp dport {_port(item.port)}"
            f" dnat {family} to {_place(to_address, item.to_port)}"
        )


def _place(address: str, port: int) -> str:
    return f"[{address}]:{_port(port)}" if ":" in address else f"{address}:{_port(port)}"


def _port(number: int) -> int:
    if not 0 < number <= _MAX_PORT:
        raise ValueError(f"{number} is no port")
    return number
