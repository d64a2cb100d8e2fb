"""Give a sandbox its network, and take it away."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

from slurmlet.spank import record
from slurmlet.spank.config import Network
from slurmlet.spank.layout import Sandbox, sandboxes
from slurmlet.spank.lock import Busy, locked
from slurmlet.spank.network import NetworkError, attachment, cni, leases, links, rules
from slurmlet.spank.network.attachment import Attachment, Interface
from slurmlet.spank.network.conf import load
from slurmlet.spank.network.result import Address, Result

LOCK = Path("/run/slurmlet/network")
"""Whoever holds the lock of this directory is the only one that sets rules."""


def attach(sandbox: Sandbox, *, job: int, boot: str, network: Network) -> Attachment:
    """A network for the sandbox's pinned namespace, in which nobody may be before `enforce`.

    Raises:
        NetworkError: there is none; `detach` undoes what was done.
        OSError: its file cannot be written.
    """
    begun = Attachment(
        # A job that is requeued comes back under its number while its first address rests.
        container=f"{job}-{os.urandom(4).hex()}",
        boot=boot,
        conf=load(Path(network.conf_dir)),
        bin_dirs=network.bin_dirs,
    )
    _write(sandbox, begun)
    result = _add(begun, netns=sandbox.namespaces / "net")
    side = links.host_side(sandbox.namespaces / "net", name=cni.INTERFACE)
    made = replace(
        begun,
        interface=Interface(name=side.name, index=side.index),
        addresses=result.addresses,
        result=result.data,
    )
    _write(sandbox, made)
    return made


def enforce(sandbox: Sandbox, *, network: Network) -> None:
    """Set the rules with those of an attached sandbox among them.

    Raises:
        NetworkError: nft fails, or this node's pod may not have the address that it was given.
    """
    own = attachment.read(sandbox.network)
    if own is None or own.interface is None:
        raise NetworkError("the sandbox has no interface")
    with _alone():
        others = list(_attached(sandbox.root.parent, but=sandbox))
        check(own.addresses, network=network, others=others)
        rules.apply(network, [*others, _of(own, own.interface.name)])


def detach(sandbox: Sandbox, *, network: Network | None) -> None:
    """Undo `attach`, whatever of it was done, as often as needed.

    Without `network`, which is when the configuration cannot be read, the rules stay as they are:
    they name an interface that is gone.

    Raises:
        NetworkError, OSError: something of it does not go.
    """
    gone = attachment.read(sandbox.network)
    if gone is None:
        sandbox.network.unlink(missing_ok=True)
        return
    if gone.interface is None and _never_was(gone, netns=sandbox.namespaces / "net"):
        sandbox.network.unlink(missing_ok=True)
        return
    if gone.interface is not None and gone.boot == record.boot_id():
        links.delete(gone.interface.name, gone.interface.index)
    # The address begins to rest now, whatever becomes of the rules.
    leases.rest(gone)
    if network is not None:
        with _alone():
            rules.apply(network, _attached(sandbox.root.parent, but=sandbox))
    sandbox.network.unlink(missing_ok=True)


def refresh(jobs: Path, *, network: Network) -> None:
    """Set the rules of what there is: also of a node without a pod, which may forward by now.

    Raises:
        NetworkError: nft fails.
    """
    with _alone():
        rules.apply(network, _attached(jobs))


def check(
    addresses: tuple[Address, ...], *, network: Network, others: list[rules.Attached]
) -> None:
    """Whether a pod of this node may have these addresses.

    Raises:
        NetworkError: one is another pod's, or outside the ranges that nodes and storage know of.
    """
    for address in addresses:
        if any(address in other.addresses for other in others):
            raise NetworkError(f"the CNI plugins gave {address}, which another pod here has")
        ranges = [net for net in map(ip_network, network.ranges) if net.version == address.version]
        if network.ranges and not any(address in net for net in ranges):
            raise NetworkError(
                f"the CNI plugins gave {address}, which is not in sandbox.network.ranges"
                f" ({', '.join(network.ranges)})"
            )


def _add(begun: Attachment, *, netns: Path) -> Result:
    conf, container, bin_dirs = begun.conf, begun.container, begun.bin_dirs
    try:
        return cni.add(conf, container=container, netns=netns, bin_dirs=bin_dirs)
    except NetworkError as error:
        if cni.EXHAUSTED not in str(error):
            raise
    leases.free(thorough=True)
    cni.delete(conf, container=container, netns=str(netns), bin_dirs=bin_dirs, previous=None)
    try:
        return cni.add(conf, container=container, netns=netns, bin_dirs=bin_dirs)
    except NetworkError as error:
        if cni.EXHAUSTED not in str(error):
            raise
        raise NetworkError(
            "this node has no address left for another pod"
            f" (one that ended frees its address after {leases.REST:.0f} s): {error}"
        ) from None


def _never_was(begun: Attachment, *, netns: Path) -> bool:
    """Undo plugins that failed or were killed: nobody ever used what they gave."""
    try:
        cni.delete(
            begun.conf, container=begun.container, netns=str(netns) if netns.exists() else "",
            bin_dirs=begun.bin_dirs, previous=None,
        )  # fmt: skip
    except NetworkError:
        return False
    return True


def _write(sandbox: Sandbox, state: Attachment) -> None:
    record.write(sandbox.network, attachment.encode(state), mode=0o600)


def _attached(jobs: Path, *, but: Sandbox | None = None) -> Iterator[rules.Attached]:
    for sandbox in sandboxes(jobs):
        if sandbox == but or sandbox.tombstone.exists():
            continue
        known = attachment.read(sandbox.network)
        if known is None or known.interface is None or known.boot != record.boot_id():
            continue
        if links.is_there(known.interface.name, known.interface.index):
            yield _of(known, known.interface.name)


@contextmanager
def _alone() -> Iterator[None]:
    try:
        with locked(LOCK, make=True):
            yield
    except Busy:
        raise NetworkError("others set rules of pods' interfaces for too long") from None


def _of(known: Attachment, interface: str) -> rules.Attached:
    return rules.Attached(interface=interface, addresses=known.addresses)
