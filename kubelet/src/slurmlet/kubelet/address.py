"""A pod's address, from what root on its node signed (docs/contracts.md, Sandbox record)."""

import ipaddress
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from slurmlet.contracts.credential import (
    GENUINE,
    UNAVAILABLE,
    UNMUNGE_OPTIONS,
    CredentialError,
    payload_of_root,
)
from slurmlet.kubelet.slurm.process import CommandError, Commands

MAX_RECORD = 16 * 1024
"""Characters of a signed record: munge adds a few hundred to the half a thousand of the facts."""
_VERSION = 1


class RecordError(ValueError):
    """A record that proves nothing; the message is for the pod's author and the administrator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What root on `host` said of a job's sandbox; without `pod_ip` it has its node's network."""

    job: int
    uid: int
    host: str
    pod_uid: str
    pod_ip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Decodes records with the program `unmunge`, as the user that they were made for."""

    commands: Commands
    unmunge: str

    async def decode(self, record: str) -> Signed:
        """
        Raises:
            RecordError: it is not root's, not for us, or not a record.
            CommandError: it cannot be known now; munged does not answer.
        """
        if len(record) > MAX_RECORD or not record.isascii():
            raise RecordError("the signed record is no munge credential")
        try:
            text = await self.commands.run(
                [self.unmunge, *UNMUNGE_OPTIONS], stdin=record.encode(), accepted=GENUINE
            )
        except CommandError as error:
            if error.code is None or error.code in UNAVAILABLE:
                raise
            raise RecordError(
                f"the signed record cannot be decoded ({error}); sandbox.agent_user on the node"
                " must be the user that the agent runs as"
            ) from None
        return signed(text)


def signed(text: str) -> Signed:
    """The facts in what unmunge printed.

    Raises:
        RecordError: they are not root's, or not understood.
    """
    try:
        data: Any = json.loads(payload_of_root(text))
        if data["version"] != _VERSION:
            raise RecordError(f"the signed record has version {data['version']}, not {_VERSION}")
        found = Signed(
            job=data["job"],
            uid=data["uid"],
            host=data["host"],
            pod_uid=data["podUID"],
            pod_ip=data["podIP"],
        )
    except CredentialError as error:
        raise RecordError(str(error)) from None
    except (ValueError, LookupError, TypeError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError("the signed record is not understood") from None
    numbers, texts = (found.job, found.uid), (found.host, found.pod_uid, found.pod_ip)
    if any(type(item) is not int for item in numbers) or any(type(t) is not str for t in texts):
        raise RecordError("the signed record is not understood")
    return found


def proved(record: Signed, *, job: int, uid: int, pod_uid: str, hosts: Collection[str]) -> str:
    """The pod's address in a record of this pod's job, empty if that has its node's network.
    `hosts` are names of the job's node.

    Raises:
        RecordError: the record is of something else, or its address is none for a pod.
    """
    if (record.job, record.uid, record.pod_uid) != (job, uid, pod_uid):
        raise RecordError(f"the signed record is of job {record.job} and another pod or user")
    # What a node calls itself may have a domain where Slurm's name has none.
    if _short(record.host) not in {_short(name) for name in hosts}:
        raise RecordError(f"the signed record was made on {record.host}, not on the job's node")
    if not record.pod_ip:
        return ""
    try:
        address = ipaddress.ip_address(record.pod_ip)
    except ValueError:
        raise RecordError(f"the signed record has the address {record.pod_ip!r}") from None
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        raise RecordError(f"the signed record has the address {address}, which no pod can have")
    return str(address)


def uses_host_network(pod: Mapping[str, Any]) -> bool:
    """Whether a pod asks for its node's network."""
    return bool(pod["spec"].get("hostNetwork"))


def _short(host: str) -> str:
    return host.partition(".")[0].lower()
