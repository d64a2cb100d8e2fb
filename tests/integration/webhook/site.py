"""A webhook as its unit starts it, with certificates of its own CA, and without an API server."""

import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import trustme

from slurmlet.contracts.policy import Snapshot, encode

NOT_AFTER = "slurmlet_webhook_certificate_not_after_timestamp_seconds"
RELOADS = 'slurmlet_webhook_certificate_reloads_total{{result="{}"}}'
SECONDS = 30
"""Bound on a start: two busy cores import Flask slowly."""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pair(ca: trustme.CA, **changes: Any) -> tuple[bytes, bytes]:
    """A serving certificate and its key, PEM."""
    leaf = ca.issue_cert("127.0.0.1", **changes)
    return b"".join(pem.bytes() for pem in leaf.cert_chain_pems), leaf.private_key_pem.bytes()


def trusting(*cas: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for ca in cas:
        ca.configure_trust(context)
    return context


class Site:
    """A configuration with its certificate authority."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.port, self.metrics_port = free_port(), free_port()
        self.cert, self.key = directory / "webhook.crt", directory / "webhook.key"
        self.policy = directory / "policy.json"
        self.config = directory / "slurmlet.toml"
        self.config.write_text(
            f'[webhook]\naddress = "127.0.0.1"\nport = {self.port}\n'
            f'serving_cert = "{self.cert}"\nserving_key = "{self.key}"\n'
            f'policy_file = "{self.policy}"\nmetrics_port = {self.metrics_port}\n'
        )

    def issue(self, **changes: Any) -> None:
        chain, key = pair(self.ca, **changes)
        self.key.write_bytes(key)
        self.cert.write_bytes(chain)

    def get(self, path: str) -> tuple[int, str]:
        """A page of the plain port."""
        plain = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=5)
        with closing(plain):
            plain.request("GET", path)
            answer = plain.getresponse()
            return answer.status, answer.read().decode()

    def connect(self, trust: ssl.SSLContext | None = None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=20, context=trust or trusting(self.ca)
        )


def command(site: Site) -> list[str]:
    return [sys.executable, "-m", "slurmlet.webhook", "serve", "--config", str(site.config)]


@contextmanager
def serving(site: Site, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command(site), stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with closing(socket.create_connection(("127.0.0.1", site.port), timeout=1)):
                    break
            except OSError:
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=SECONDS)


def publish(path: Path, snapshot: Snapshot) -> None:
    """As the agent does."""
    partial = path.with_suffix(".new")
    partial.write_text(encode(snapshot))
    partial.replace(path)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def metric(site: Site, name: str) -> float:
    (line,) = [x for x in site.get("/metrics")[1].splitlines() if x.startswith(f"{name} ")]
    return float(line.removeprefix(name))


def ask(connection: http.client.HTTPSConnection) -> dict[str, Any]:
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "", "version": "v1", "kind": "Service"},
            "operation": "CREATE",
            "object": {"metadata": {"name": "web"}, "spec": {"type": "ClusterIP"}},
        },
    }
    connection.request("POST", "/mutate", body=json.dumps(body))
    response = connection.getresponse()
    assert response.status == 200
    answer: dict[str, Any] = json.loads(response.read())
    return answer
