"""Agent ⇄ supervisor (docs/contracts.md, Agent ⇄ supervisor).

`GET /v1/pods/UID/control` is a WebSocket of JSON text messages, each with a `type`;
`GET /v1/streams/ID` is one WebSocket of binary messages per stream. Both carry
`Authorization: Bearer TOKEN`. A message of an unknown type, and an unknown field, come from a newer
peer and are ignored and counted.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from slurmlet.contracts.codec import CodecError, decode, encode

CONTROL_PATH = "/v1/pods/{uid}/control"
STREAM_PATH = "/v1/streams/{id}"
VERSION = 1
PLAN_CHUNK = 256 * 1024
"""Characters of one plan chunk: well below the 4 MiB at which WebSocket peers give up."""
MAX_PLAN = 16 * 1024 * 1024
"""Characters of a whole plan: ten full Secrets or ConfigMaps and a pod of the largest size."""
MAX_MESSAGE = 1024 * 1024


class ProtocolError(ValueError):
    """A message that does not follow the protocol; it never quotes values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """One state of a container, times in RFC 3339. `kind`: waiting, running or terminated."""

    kind: str
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    started_at: str | None = None
    finished_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerReport:
    """What the supervisor knows of a container."""

    name: str
    init: bool
    state: ContainerState
    last: ContainerState | None = None
    ready: bool = False
    started: bool = False
    restart_count: int = 0
    image: str = ""
    image_id: str = ""
    container_id: str = ""


# supervisor → agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of a connection; `record` is the munge-signed sandbox record, when there is
    one, and `problem` why there is no sandbox. `planned` says that the supervisor has its plan from
    an earlier connection."""

    job_id: int
    host: str
    attempt: int = 0
    version: int = VERSION
    planned: bool = False
    record: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A full snapshot of the pod. `phase` is Pending, Running, Succeeded or Failed; `final` means
    that nothing follows it and the supervisor waits for its ack before it exits."""

    seq: int
    phase: str
    containers: tuple[ContainerReport, ...]
    final: bool = False
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event on the pod, in kubelet's words (`Pulling`, `Pulled`, `BackOff`, …).
    `kind` is Normal or Warning."""

    reason: str
    message: str
    kind: str = "Normal"
    container: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedPlan:
    """Asks for the plan again, of which ConfigMaps and Secrets count that are not of volumes, and
    the pod's labels and annotations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFailed:
    id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """Either side ends the conversation. From the agent: end without starting a container."""

    reason: str


# agent → supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChunk:
    """Part `index` of `total` of an encoded Plan."""

    index: int
    total: int
    data: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Terminate the containers; SIGKILL follows after `grace` seconds."""

    grace: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStream:
    """Ask for one stream; the supervisor answers by dialling STREAM_PATH or StreamFailed.

    `kind` "logs": the CRI lines of `container`, of its start number `restart_count` (None: the
    newest), whole lines in binary messages; with `follow` until the container's last line.
    `tail_lines` keeps only that many lines of what is there at the start.
    """

    id: str
    kind: str
    container: str
    follow: bool = False
    tail_lines: int | None = None
    restart_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The agent has stored the status of this number."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirection:
    """Connections to `port` of the pod's own address lead to its `target_port`. `protocol` is TCP
    or UDP."""

    port: int
    target_port: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """TCP connections of the pod to an address and port lead to another."""

    address: str
    port: int
    to_address: str
    to_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What changes while the pod runs, whole each time: for its own network, what the Services that
    select it redirect, and what it cannot reach where it looks for it."""

    services: tuple[Redirection, ...] = ()
    forwardings: tuple[Forwarding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFile:
    """`path` is relative to the volume's mount point, `data` base64, `mode` octal bits."""

    path: str
    data: str = field(repr=False)
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """`kind` is `files` (content from the API) or `emptyDir` (medium and size from the pod)."""

    name: str
    kind: str
    files: tuple[VolumeFile, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the supervisor runs: the pod as the API has it, the content of its volumes, and the
    ConfigMaps (text) and Secrets (base64) that its environment refers to, by name. An optional
    one that does not exist is absent, and so is one of `pull_secrets`, of which only the keys with
    Docker's configuration are there (base64). `dns_servers` answer for Services below
    `cluster_domain`."""

    pod: Mapping[str, Any] = field(repr=False)
    volumes: tuple[Volume, ...] = ()
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    pull_secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    pod_ip: str = ""
    host_ip: str = ""
    engine: str = ""
    service_env: Mapping[str, str] = field(default_factory=dict)
    dns_servers: tuple[str, ...] = ()
    cluster_domain: str = ""


FromSupervisor = Hello | Status | Event | NeedPlan | StreamFailed | Bye
FromAgent = PlanChunk | Update | Stop | OpenStream | Ack | Bye
Message = FromSupervisor | FromAgent

TYPES: Mapping[str, type[Message]] = {
    "hello": Hello,
    "status": Status,
    "event": Event,
    "need-plan": NeedPlan,
    "stream-failed": StreamFailed,
    "bye": Bye,
    "plan": PlanChunk,
    "update": Update,
    "stop": Stop,
    "open-stream": OpenStream,
    "ack": Ack,
}
T = TypeVar("T")
_NAMES = {kind: name for name, kind in TYPES.items()}


def token(*, key: bytes, uid: str, attempt: int, user: str) -> str:
    """The bearer token of one attempt at a pod: it opens that pod's plan and nothing else."""
    return hmac.new(key, f"{uid}\0{attempt}\0{user}".encode(), hashlib.sha256).hexdigest()


def encode_message(message: Message) -> str:
    return json.dumps({"type": _NAMES[type(message)], **encode(message)})


def decode_message(text: str, *, unknown: list[str] | None = None) -> Message | None:
    """The message of one frame, or None for a type of a newer peer.

    Unknown types and fields are appended to `unknown`.

    Raises:
        ProtocolError: not a JSON object with a type, or fields of the wrong type.
    """
    ignored = unknown if unknown is not None else []
    try:
        data: Any = json.loads(text)
        kind = data.pop("type")
    except (ValueError, AttributeError, KeyError, TypeError):
        raise ProtocolError("message: not a JSON object with a type") from None
    if kind not in TYPES:
        ignored.append(f"type {str(kind)[:40]}")
        return None
    return _decode(TYPES[kind], data, path=kind, unknown=ignored)


def encode_plan(plan: Plan) -> Iterator[PlanChunk]:
    """The chunks of a plan, in order.

    Raises:
        ProtocolError: the plan is larger than MAX_PLAN.
    """
    text = json.dumps(encode(plan))
    if len(text) > MAX_PLAN:
        raise ProtocolError(f"plan: {len(text)} characters, more than {MAX_PLAN}")
    total = -(-len(text) // PLAN_CHUNK)
    for index in range(total):
        start = index * PLAN_CHUNK
        yield PlanChunk(index=index, total=total, data=text[start : start + PLAN_CHUNK])


def join_plan(chunks: list[PlanChunk]) -> Plan | None:
    """The plan, once all chunks are there, else None.

    Raises:
        ProtocolError: chunks out of order, too many, or not a plan.
    """
    total = chunks[0].total
    in_order = all(c.index == i and c.total == total for i, c in enumerate(chunks))
    if not in_order or not 0 < total <= MAX_PLAN // PLAN_CHUNK or len(chunks) > total:
        raise ProtocolError("plan: chunks out of order")
    if len(chunks) < total:
        return None
    try:
        data = json.loads("".join(chunk.data for chunk in chunks))
    except ValueError:
        raise ProtocolError("plan: not JSON") from None
    return _decode(Plan, data, path="plan", unknown=[])


def _decode(kind: type[T], data: object, *, path: str, unknown: list[str]) -> T:
    try:
        return decode(kind, data, path=path, unknown=unknown)
    except CodecError as error:
        raise ProtocolError(str(error).split(":", 1)[0] + ": wrong or missing") from None
