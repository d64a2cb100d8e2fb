"""The socket: one process per request, so that root's loop shares nothing with what it serves."""

import logging
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from slurmlet.broker.config import ConfigError, Settings
from slurmlet.broker.process import fork_request
from slurmlet.broker.verbs import answer, find_account
from slurmlet.contracts import audit
from slurmlet.contracts.audit import CANCEL, SUBMIT, Act
from slurmlet.contracts.brokerproto import (
    MAX_REQUEST,
    VERBS,
    Answer,
    Cancel,
    RefusedError,
    Request,
    Submit,
    decode_request,
    encode_answer,
)

LOG = logging.getLogger("slurmlet.broker")
_SLACK = 15.0
"""Seconds beyond a request's own timeouts after which its process is killed."""
_SHUTDOWN = 40.0
"""Seconds that requests in flight get when the broker is stopped."""
_CREDENTIALS = struct.Struct("3i")


def serve(listener: socket.socket, settings: Settings) -> None:
    """Answer requests until SIGTERM or SIGINT; those in flight are finished first."""
    broker = settings.broker
    life = (
        broker.request_timeout * 2
        # A submission looks at the user's home first; a cancellation may take three commands.
        + max(broker.read_timeout + broker.submit_timeout, broker.cancel_timeout * 3)
        + _SLACK
    )
    running: dict[int, float] = {}
    stopping: list[int] = []
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _: stopping.append(caught))
    listener.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(wake_read, selectors.EVENT_READ)
        accepting = False
        give_up = float("inf")
        while not stopping or (running and time.monotonic() < give_up):
            wanted = not stopping and len(running) < broker.concurrency
            if wanted and not accepting:
                selector.register(listener, selectors.EVENT_READ)
            elif accepting and not wanted:
                selector.unregister(listener)
            accepting = wanted
            for key, _ in selector.select(1.0 if running else None):
                if key.fileobj is listener:
                    _accept(listener, settings, running, life)
                else:
                    with suppress(BlockingIOError):
                        os.read(wake_read, 4096)
            _reap(running)
            if stopping and give_up == float("inf"):
                give_up = time.monotonic() + _SHUTDOWN
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _accept(
    listener: socket.socket, settings: Settings, running: dict[int, float], life: float
) -> None:
    try:
        connection, _ = listener.accept()
    except OSError:
        return
    with connection:

        def handle() -> None:
            listener.close()
            handle_connection(connection, settings)

        try:
            running[fork_request(handle)] = time.monotonic() + life
        except OSError as error:
            LOG.error("cannot fork: %s", error.strerror)


def _reap(running: dict[int, float]) -> None:
    for pid, deadline in list(running.items()):
        if os.waitpid(pid, os.WNOHANG)[0]:
            del running[pid]
        elif time.monotonic() > deadline:
            LOG.error("request process %d hangs; killed", pid)
            os.kill(pid, signal.SIGKILL)
            running[pid] = float("inf")


def handle_connection(
    connection: socket.socket,
    settings: Settings,
    *,
    carry_out: Callable[..., tuple[Answer, bytes]] = answer,
) -> None:
    """Read one request, check its peer, carry it out, answer, and log one line."""
    started = time.monotonic()
    connection.settimeout(settings.broker.request_timeout)
    pid, uid, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    request: Request | None = None
    content = b""
    try:
        _check_peer(uid, agent_user=settings.broker.agent_user)
        request = decode_request(_read_line(connection))
        reply, content = carry_out(request, settings=settings, find=find_account)
    except RefusedError as error:
        reply = Answer(error=str(error))
    except ConfigError as error:
        reply = Answer(error=f"the broker is misconfigured: {error}", retry=True)
    except TimeoutError:
        reply = Answer(error="request: not complete in time")
    except Exception:
        LOG.exception("request failed")
        reply = Answer(error="internal error of the broker; see its log", retry=True)
    if act := _act(request, reply):
        # Before the answer, which may find nobody any more.
        LOG.info("%s", audit.line(act))
    try:
        connection.sendall(encode_answer(reply) + content)
    except OSError as error:
        LOG.warning("peer uid %d pid %d did not take its answer: %s", uid, pid, error)
    LOG.log(
        logging.WARNING if reply.error else logging.INFO,
        "peer uid %d pid %d: %s: %s in %.3f s",
        uid,
        pid,
        _describe(request),
        _result(reply),
        time.monotonic() - started,
    )


def _check_peer(uid: int, *, agent_user: str) -> None:
    agent = find_account(agent_user)
    if uid != 0 and (agent is None or uid != agent.uid):
        raise RefusedError(f"uid {uid} may not ask the broker")


def _read_line(connection: socket.socket) -> bytes:
    # The timeout holds for each read, the number of reads is bounded by the deadline.
    deadline = time.monotonic() + (connection.gettimeout() or 0)
    data = b""
    while b"\n" not in data:
        if time.monotonic() > deadline:
            raise TimeoutError
        if len(data) > MAX_REQUEST:
            raise RefusedError(f"request: longer than {MAX_REQUEST} bytes")
        piece = connection.recv(65536)
        if not piece:
            raise RefusedError("request: ended before its newline")
        data += piece
    line, _, rest = data.partition(b"\n")
    if rest or len(line) > MAX_REQUEST:
        raise RefusedError(f"request: one line of at most {MAX_REQUEST} bytes per connection")
    return line


def _act(request: Request | None, reply: Answer) -> Act | None:
    """What was done with a job, if anything was."""
    if isinstance(request, Submit) and reply.job_id is not None:
        pod = f"{request.namespace}/{request.pod}"
        return Act(what=SUBMIT, job=reply.job_id, pod=pod, uid=request.uid)
    if isinstance(request, Cancel) and reply.error is None:
        return Act(what=CANCEL, job=request.job_id)
    return None


def _describe(request: Request | None) -> str:
    if request is None:
        return "no valid request"
    verb = next(name for name, kind in VERBS.items() if isinstance(request, kind))
    if isinstance(request, Submit):
        return f"{verb} {request.namespace}/{request.pod} {request.uid} try {request.attempt}"
    if isinstance(request, Cancel):
        return f"{verb} {request.namespace} job {request.job_id}"
    return f"{verb} {request.namespace} {request.uid} {request.file}"


def _result(reply: Answer) -> str:
    if reply.error:
        return f"refused ({'may pass' if reply.retry else 'for good'}): {reply.error}"
    return f"job {reply.job_id}" if reply.job_id else f"done, {reply.size} bytes"
