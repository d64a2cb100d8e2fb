"""What a pod finds of the network when it starts: its names, its resolver, its ports."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slurmlet.contracts.podproto import Event, Plan
from slurmlet.supervisor.anchor import Anchor
from slurmlet.supervisor.files import read_text
from slurmlet.supervisor.hostfiles import HostnameError, Names, hosts, pod_names, resolv_conf
from slurmlet.supervisor.process import ProcessError
from slurmlet.supervisor.sandbox import Sandbox

LOG = logging.getLogger("slurmlet.supervisor")
_MAX_FILE = 1024 * 1024
"""Bytes read of the node's /etc/hosts."""
_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")
"""Of systemd-resolved, whose own file only names its address on the node's loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`own` says that the pod has a network namespace of its own. `files` are the contents of
    hosts, hostname and resolv.conf by name; without a name of its own the pod has no hostname."""

    own: bool
    names: Names
    files: dict[str, str]


def find_network(
    plan: Plan, *, sandbox: Sandbox | None, tell: Callable[[Event], None], etc: Path = Path("/etc")
) -> Network:
    """The network of a pod in this sandbox.

    Raises:
        ProcessError: its names cannot be had.
    """
    own = sandbox is not None and "net" in sandbox.kinds
    try:
        names = pod_names(plan) if sandbox else Names()
    except HostnameError as error:
        raise ProcessError(str(error)) from None
    resolver = resolv_conf(plan, node=_node_resolver(etc), own_network=own)
    if resolver.left_out:
        message = f"Left out of resolv.conf, which is full: {' '.join(resolver.left_out)}"
        tell(Event(reason="DNSConfigForming", message=message, kind="Warning"))
    files = {
        "hosts": hosts(plan, node=_read(etc / "hosts"), names=names, own_network=own),
        "resolv.conf": resolver.text,
    }
    if names.kernel:
        files["hostname"] = f"{names.kernel}\n"
    return Network(own=own, names=names, files=files)


async def open_low_ports(anchor: Anchor) -> None:
    """Let any user of the pod listen on any port of the pod's own network, as in pods elsewhere."""
    # The file belongs to the owner of the network namespace.
    script = "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start"
    try:
        await anchor.run(["sh", "-c", script])
    except ProcessError as error:
        LOG.warning("only root of the pod can listen below port 1024: %s", error)


def _node_resolver(etc: Path) -> str:
    text = _read(etc / "resolv.conf")
    return (_read(_UPSTREAM) or text) if "nameserver 127.0.0.53" in text else text


def _read(path: Path) -> str:
    return read_text(path, limit=_MAX_FILE)
