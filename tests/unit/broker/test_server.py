"""The socket: peers, malformed requests, bounds, and the whole broker as a process."""

import dataclasses
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurmlet.broker.config import Settings
from slurmlet.broker.server import handle_connection
from slurmlet.contracts import audit
from slurmlet.contracts.audit import Act
from slurmlet.contracts.brokerproto import (
    MAX_REQUEST,
    Answer,
    Cancel,
    Submit,
    decode_answer,
    encode_request,
)

from .conftest import Site

DONE = Answer()
NOBODY = 65534
SUBMIT = Submit(
    namespace="alice",
    pod="web",
    uid="0123abcd-1111-2222-3333-444455556666",
    attempt=1,
    options={},
    agent="10.0.0.1:10260",
    token="0" * 64,
    grace_seconds=5,
)
CANCEL = encode_request(Cancel(namespace="alice", job_id=7))


def exchange(settings: Settings, data: bytes, reply: Answer | Exception = DONE) -> Answer:
    """One connection from this process to `handle_connection`, with the verbs replaced."""

    def carry_out(*_: Any, **__: Any) -> tuple[Answer, bytes]:
        if isinstance(reply, Exception):
            raise reply
        return reply, b""

    here, there = socket.socketpair()
    with here:
        with there:
            writer = threading.Thread(target=send, args=(here, data))
            writer.start()
            handle_connection(there, settings, carry_out=carry_out)
        writer.join()
        return decode_answer(here.makefile("rb").readline())


def send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        # The broker may have had enough of it.
        return


@pytest.fixture
def settings(site: Site, monkeypatch: pytest.MonkeyPatch) -> Settings:
    me = dataclasses.replace(site.account, uid=os.geteuid())
    monkeypatch.setattr("slurmlet.broker.server.find_account", lambda _: me)
    broker = dataclasses.replace(site.settings.broker, request_timeout=0.2)
    return dataclasses.replace(site.settings, broker=broker)


def test_a_request_is_answered_and_logged(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert exchange(settings, CANCEL) == Answer()
    assert "cancel alice job 7: done" in caplog.text
    assert audit.parse(f"INFO {caplog.messages[0]}") == Act(what="cancel", job=7)


def test_a_submission_is_audited_if_there_is_a_job(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    exchange(settings, encode_request(SUBMIT), Answer(error="no", retry=True))
    exchange(settings, encode_request(SUBMIT), Answer(job_id=9))
    acts = [audit.parse(f"INFO {text}") for text in caplog.messages]
    assert [act for act in acts if act] == [
        Act(what="submit", job=9, pod="alice/web", uid=SUBMIT.uid)
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{}\n", "verb: unknown"),
        (b"nonsense\n", "not a line of JSON"),
        (b'{"verb": "cancel", "namespace": "alice", "job_id": "7"}\n', "cancel.job_id: wrong"),
        (b'{"verb": "cancel", "namespace": "../x", "job_id": 7}\n', "namespace: not of the form"),
        (CANCEL + CANCEL, "one line"),
        (b"x" * (MAX_REQUEST + 2), "longer than"),
        (b'{"verb": "cancel"', "not complete in time"),
    ],
)
def test_malformed_requests(settings: Settings, data: bytes, words: str) -> None:
    reply = exchange(settings, data, AssertionError("carried out"))
    assert words in str(reply.error)
    assert not reply.retry


def test_another_user_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurmlet.broker.server.find_account", lambda _: None)
    # The kernel notes a peer's effective uid; root, who may always ask, puts it off for that.
    was = os.geteuid()
    os.seteuid(NOBODY if was == 0 else was)
    try:
        reply = exchange(settings, CANCEL, AssertionError())
    finally:
        os.seteuid(was)
    assert "may not ask" in str(reply.error)


def test_a_surprise_is_answered_without_its_text(settings: Settings) -> None:
    reply = exchange(settings, CANCEL, RuntimeError("5" * 64))
    assert reply == Answer(error="internal error of the broker; see its log", retry=True)


Start = Callable[..., tuple[subprocess.Popen[bytes], Path]]


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """The broker as its own process, by socket activation or on its own socket."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*, activated: bool, concurrency: int = 4) -> tuple[subprocess.Popen[bytes], Path]:
        config = site.directory / "slurmlet.toml"
        config.write_text(
            f'[cluster]\nname = "lab"\n[broker]\nconcurrency = {concurrency}\n'
            f'scancel = "{site.directory}/scancel"\nrequest_timeout = 0.5\nagent_user = "root"\n'
        )
        identity = site.directory / "identity.toml"
        identity.write_text('[namespaces.alice]\nuser = "nobody-here"\n')
        path = site.directory / "broker.sock"
        argv = [sys.executable, "-m", "slurmlet.broker", "--config", str(config)]
        argv += ["--identity", str(identity)]
        if not activated:
            argv += ["--socket", str(path)]
            process = subprocess.Popen(argv, stderr=subprocess.PIPE)
            while not path.exists() and process.poll() is None:
                select.select([], [], [], 0.01)
        else:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.listen()
            # As systemd does it: descriptor 3, and the pid of the process that it becomes.
            script = (
                f"import os, sys; os.dup2({listener.fileno()}, 3);"
                "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
                "os.execv(sys.argv[1], sys.argv[1:])"
            )
            process = subprocess.Popen(
                [sys.executable, "-c", script, *argv],
                pass_fds=(listener.fileno(),),
                stderr=subprocess.PIPE,
            )
            listener.close()
        started.append(process)
        return process, path

    yield run
    for process in started:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def call(path: Path, data: bytes) -> Answer:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        connection.sendall(data)
        with connection.makefile("rb") as file:
            return decode_answer(file.readline())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="reads root's files only")
@pytest.mark.parametrize("activated", [True, False])
def test_the_program_answers_and_ends_on_sigterm(start: Start, activated: bool) -> None:
    process, path = start(activated=activated)
    for _ in range(10):
        assert "does not exist here" in str(call(path, CANCEL).error)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert process.stderr
    log = process.stderr.read().decode()
    assert log.count("cancel alice job 7: refused (for good)") == 10


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="reads root's files only")
def test_silent_peers_do_not_block_others_for_long(start: Start) -> None:
    _, path = start(activated=False, concurrency=2)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    try:
        for connection in silent:
            connection.connect(str(path))
        # Served once the silent ones have run into the request's timeout.
        assert "does not exist here" in str(call(path, CANCEL).error)
    finally:
        for connection in silent:
            connection.close()


def test_without_a_socket_it_says_how_to_start_it(site: Site) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slurmlet.broker", "--config", str(site.directory / "none")],
        capture_output=True,
        timeout=20,
    )
    assert done.returncode == 2
    assert b"none: No such file or directory" in done.stderr
