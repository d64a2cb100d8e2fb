"""Agent ⇄ broker: one request and one answer per connection of the broker's Unix socket.

A request is one line of JSON. The answer is one line of JSON, followed for `read-log` by `size`
bytes of file content.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slurmlet.contracts.annotations import option_problem
from slurmlet.contracts.codec import CodecError, decode, encode
from slurmlet.contracts.names import SANDBOX_MODES
from slurmlet.contracts.request import DEFAULT_GRACE_SECONDS

MAX_REQUEST = 64 * 1024
"""Bytes of a request line: far above the longest legal set of options."""
MAX_READ = 1024 * 1024
"""Bytes that one read-log returns; the caller asks again from the next offset."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
NAMESPACE = re.compile(_LABEL)
# A pod's name is bounded as a whole; Kubernetes bounds its parts only where they are labels.
_PART = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
POD_NAME = re.compile(rf"(?=.{{1,253}}\Z){_PART}(?:\.{_PART})*")
POD_UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
STATE_FILE = re.compile(rf"{_LABEL}/[0-9]{{1,6}}\.log|exit\.json")
AGENT = re.compile(r"[A-Za-z0-9.:\[\]-]{1,253}:[0-9]{1,5}")
TOKEN = re.compile(r"[0-9a-f]{64}")
MAX_GRACE = 65535


class RefusedError(ValueError):
    """A request that is malformed or not allowed; the message may be shown to the pod's author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """sbatch for a pod, as the user of its namespace. `token` is secret, `sandbox` is one of
    SANDBOX_MODES."""

    namespace: str
    pod: str
    uid: str
    attempt: int
    options: Mapping[str, str]
    agent: str
    token: str = field(repr=False)
    grace_seconds: int = DEFAULT_GRACE_SECONDS
    sandbox: str = SANDBOX_MODES[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """scancel as the user of the namespace; Slurm refuses jobs of others."""

    namespace: str
    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLog:
    """A slice of a file in a pod's state directory, read as the user of its namespace."""

    namespace: str
    uid: str
    file: str
    offset: int = 0
    limit: int = MAX_READ


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`error` is None on success; `retry` says whether the same request may succeed later.

    `job_id` answers Submit, `size` (bytes that follow) and `total` (bytes of the file) ReadLog.
    """

    error: str | None = None
    retry: bool = False
    job_id: int | None = None
    size: int = 0
    total: int = 0


Request = Submit | Cancel | ReadLog
VERBS: Mapping[str, type[Request]] = {"submit": Submit, "cancel": Cancel, "read-log": ReadLog}


def encode_request(request: Request) -> bytes:
    verb = next(name for name, kind in VERBS.items() if isinstance(request, kind))
    return json.dumps({"verb": verb, **encode(request)}).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """The request of one line, with every field checked.

    Raises:
        RefusedError: the line is no request of a known verb with valid fields.
    """
    try:
        data: Any = json.loads(line)
    except ValueError:
        raise RefusedError("request: not a line of JSON") from None
    verb = data.pop("verb", None) if isinstance(data, dict) else None
    if not isinstance(verb, str) or verb not in VERBS:
        raise RefusedError(f"verb: unknown; known are {', '.join(VERBS)}")
    try:
        request: Request = decode(VERBS[verb], data, path=verb)
    except CodecError as error:
        # The offending value could be the token, so only the field is named.
        raise RefusedError(str(error).split(":", 1)[0] + ": wrong or missing") from None
    _check(request)
    return request


def encode_answer(answer: Answer) -> bytes:
    return json.dumps(encode(answer)).encode() + b"\n"


def decode_answer(line: bytes) -> Answer:
    """Raises ValueError (json) or CodecError for what is no answer."""
    return decode(Answer, json.loads(line), path="answer", unknown=[])


def _check(request: Request) -> None:
    _match(NAMESPACE, request.namespace, "namespace")
    if isinstance(request, Cancel):
        _range(request.job_id, "job_id", 1, 2**32 - 1)
    elif isinstance(request, ReadLog):
        _match(POD_UID, request.uid, "uid")
        _match(STATE_FILE, request.file, "file")
        _range(request.offset, "offset", 0, 2**62)
        _range(request.limit, "limit", 0, MAX_READ)
    else:
        _match(POD_NAME, request.pod, "pod")
        _match(POD_UID, request.uid, "uid")
        _match(AGENT, request.agent, "agent")
        _match(TOKEN, request.token, "token")
        _range(request.attempt, "attempt", 0, 10**6)
        _range(request.grace_seconds, "grace_seconds", 0, MAX_GRACE)
        if request.sandbox not in SANDBOX_MODES:
            raise RefusedError(f"sandbox: not one of {', '.join(SANDBOX_MODES)}")
        for name, value in request.options.items():
            problem = option_problem(name, value)
            if problem:
                raise RefusedError(f"options.{name}: {problem}")


def _match(pattern: re.Pattern[str], value: str, name: str) -> None:
    if not pattern.fullmatch(value):
        raise RefusedError(f"{name}: not of the form {pattern.pattern}")


def _range(value: int, name: str, low: int, high: int) -> None:
    if not low <= value <= high:
        raise RefusedError(f"{name}: {value} is not between {low} and {high}")
