"""What the webhook's two ports do, without an API server."""

import http.client
import json
import socket
import ssl
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.webhook.site import (
    NOT_AFTER,
    RELOADS,
    SECONDS,
    Site,
    ask,
    command,
    metric,
    publish,
    serving,
    wait_until,
)

from slurmlet.contracts.policy import Snapshot
from slurmlet.webhook.server import THREADS


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.issue()
    return site


def test_it_answers_many_requests_on_one_connection(site: Site, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(site, log) as process:
        with closing(site.connect()) as connection:
            connection.connect()
            first = connection.sock
            for _ in range(5):
                assert ask(connection)["response"]["allowed"] is True
            assert connection.sock is first, "a connection per request costs a handshake each"
        process.terminate()
        assert process.wait(timeout=SECONDS) == 0
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    assert len(lines) == 5
    assert json.loads(lines[0])["name"] == "web"


@pytest.mark.claim("W92")
def test_a_renewed_certificate_is_served_without_a_restart(site: Site, tmp_path: Path) -> None:
    def serial() -> object:
        with closing(site.connect()) as connection:
            connection.connect()
            assert isinstance(connection.sock, ssl.SSLSocket)
            return (connection.sock.getpeercert() or {})["serialNumber"]

    with serving(site, tmp_path / "log"):
        before, ends = serial(), metric(site, NOT_AFTER)
        assert serial() == before
        site.issue(not_after=datetime.fromtimestamp(ends + 86400, UTC))
        wait_until(lambda: serial() != before)
        assert metric(site, NOT_AFTER) == ends + 86400
        site.key.write_text("no key")
        wait_until(lambda: metric(site, RELOADS.format("failure")) == 1)
        assert serial() != before
        assert metric(site, RELOADS.format("success")) == 1


@pytest.mark.claim("W96")
def test_clients_that_do_not_go_on_are_hung_up_on(site: Site, tmp_path: Path) -> None:
    def begun(text: bytes) -> socket.socket:
        """A connection whose client makes the handshake and says so much of a request."""
        connection = site.connect()
        connection.connect()
        connection.sock.sendall(text)
        return connection.sock

    log = tmp_path / "log"
    with serving(site, log):
        handshakes = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(THREADS)]
        for one in handshakes:
            one.sendall(b"\x16\x03\x01\x02\x00\x01")
        requests = [begun(b"POST /mutate HTTP/1.1\r\nContent-Length: 9\r\n\r\n{") for _ in range(4)]
        with closing(site.connect()) as connection:
            assert ask(connection)["response"]["allowed"] is True
        for one in (*handshakes, *requests):
            one.settimeout(SECONDS)
            while one.recv(4096):
                """An alert may come before the end."""
            one.close()
        log_text = log.read_text()
    assert "Traceback" not in log_text


@pytest.mark.claim("W96")
def test_a_client_that_does_not_hang_up_holds_nobody_up(site: Site, tmp_path: Path) -> None:
    with serving(site, tmp_path / "log"):
        staying = []
        for _ in range(8):
            connection = site.connect()
            connection.request("GET", "/healthz", headers={"Connection": "close"})
            staying.append(connection.sock)
            connection.sock.recv(4096)
        started = time.monotonic()
        with closing(site.connect()) as connection:
            assert ask(connection)["response"]["allowed"] is True
        # gunicorn alone waits two seconds for each of them, and accepts nobody meanwhile.
        assert time.monotonic() - started < 8
        for one in staying:
            one.close()


def test_a_client_that_says_nothing_holds_nobody_up(site: Site, tmp_path: Path) -> None:
    with serving(site, tmp_path / "log"):
        silent = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(15)]
        with closing(site.connect()) as connection:
            assert ask(connection)["response"]["allowed"] is True
        for one in silent:
            one.close()


def chunked(body: bytes) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n" + body


@pytest.mark.claim("W95")
def test_a_body_that_breaks_off_or_is_malformed_is_the_callers_error(
    site: Site, tmp_path: Path
) -> None:
    def status(rest: bytes) -> int:
        with closing(site.connect()) as connection:
            connection.connect()
            connection.sock.sendall(b"POST /mutate HTTP/1.1\r\nHost: webhook\r\n" + rest)
            response = http.client.HTTPResponse(connection.sock, method="POST")
            response.begin()
            return response.status

    log = tmp_path / "log"
    with serving(site, log):
        for rest, wanted in (
            (chunked(b"zz\r\nabc\r\n0\r\n\r\n"), 400),
            (chunked(b"5\r\nabcdefgh\r\n0\r\n\r\n"), 400),
            (chunked(b"3\r\n{} \r\n0\r\n\r\n"), 400),
            (b"Content-Length: -3\r\n\r\nabc", 400),
            (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            (b"Content-Length: 99999999999\r\n\r\nabc", 413),
            (b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 400),
        ):
            assert status(rest) == wanted, rest
        with closing(site.connect()) as connection:
            connection.connect()
            connection.sock.sendall(b"POST /mutate HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
        with closing(site.connect()) as connection:
            assert ask(connection)["response"]["allowed"] is True
    assert "Traceback" not in log.read_text()


@pytest.mark.claim("W91")
@pytest.mark.claim("W92")
def test_the_plain_port_says_whether_it_is_ready_and_what_it_did(
    site: Site, tmp_path: Path
) -> None:
    with serving(site, tmp_path / "log"):
        wait_until(lambda: site.get("/readyz") == (200, "ok\n"))
        assert site.get("/healthz") == (200, "ok\n")
        assert "slurmlet_webhook_policy_age_seconds +Inf" in site.get("/metrics")[1]
        publish(site.policy, Snapshot(written=time.time() - 100))
        with closing(site.connect()) as connection:
            for path in ("/healthz", "/readyz"):
                connection.request("GET", path)
                answer = connection.getresponse()
                assert (answer.status, answer.read()) == (200, b"ok")
            for _ in range(3):
                ask(connection)
        wait_until(lambda: 100 <= metric(site, "slurmlet_webhook_policy_age_seconds") < 130)
        labels = 'kind="Service",operation="CREATE",outcome="patched"'
        assert metric(site, f"slurmlet_webhook_requests_total{{{labels}}}") == 3
        duration = "slurmlet_webhook_request_duration_seconds"
        assert metric(site, f'{duration}_count{{kind="Service"}}') == 3
        assert metric(site, "process_resident_memory_bytes") > 0


def test_a_plain_port_in_use_is_one_line(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.metrics_port)):
        ended = subprocess.run(command(site), capture_output=True, text=True, timeout=SECONDS)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"webhook.metrics_port {site.metrics_port}: Address already in use" in line


def test_a_wrong_certificate_is_one_line(site: Site) -> None:
    site.key.write_text("no key")
    ended = subprocess.run(command(site), capture_output=True, text=True, timeout=SECONDS)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "webhook.serving_key" in line
    assert str(site.key) in line
