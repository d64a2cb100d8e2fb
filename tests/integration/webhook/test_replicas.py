"""Two webhooks behind a Service: one goes, and nobody notices."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.integration.webhook.conftest import REGISTERED, SECONDS
from tests.integration.webhook.site import Site, serving, wait_until

from slurmlet.controlplane.run import ControlPlane

Kubectl = Callable[..., str]
HOME, NAME = "slurmlet-system", "slurmlet-webhook"
TRIES = 40
DECISIONS = "slurmlet_webhook_requests_total"


def own_address() -> str:
    """An address of this machine that is not loopback: no EndpointSlice may hold one that is."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            # Nothing is sent; the kernel chooses the address that it would send from.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = probe.getsockname()[0]
        return address


def endpoints(number: int, port: int, *, ready: bool = True) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{NAME}-{number}",
            "namespace": HOME,
            "labels": {"kubernetes.io/service-name": NAME},
        },
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port}],
        "endpoints": [{"addresses": [own_address()], "conditions": {"ready": ready}}],
    }


@pytest.fixture
def replicas(
    control_plane: ControlPlane, kubectl: Kubectl, tmp_path: Path
) -> Iterator[list[tuple[Site, subprocess.Popen[bytes]]]]:
    """Registered by their Service, each ready."""
    ca = trustme.CA()
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": HOME},
        "spec": {"clusterIP": "None", "ports": [{"name": "https", "port": 443}]},
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}}
    kubectl("admin", "apply", "-f", "-", stdin=json.dumps(namespace))
    kubectl("admin", "apply", "-f", "-", stdin=json.dumps(service))
    ca.cert_pem.write_to_path(tmp_path / "ca.crt")
    with ExitStack() as stack:
        found = []
        for number in range(2):
            directory = tmp_path / str(number)
            directory.mkdir()
            site = Site(directory)
            site.config.write_text(site.config.read_text().replace('"127.0.0.1"', '"0.0.0.0"'))
            leaf = ca.issue_cert(f"{NAME}.{HOME}.svc")
            site.key.write_bytes(leaf.private_key_pem.bytes())
            leaf.cert_chain_pems[0].write_to_path(site.cert)
            process = stack.enter_context(serving(site, directory / "log"))
            found.append((site, process))
            kubectl("admin", "apply", "-f", "-", stdin=json.dumps(endpoints(number, site.port)))
        command = [sys.executable, "-m", "slurmlet.webhook", "bootstrap"]
        command += ["--kubeconfig", str(control_plane.admin_conf), "--service", f"{HOME}/{NAME}"]
        command += ["--ca-file", str(tmp_path / "ca.crt")]
        subprocess.run(command, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: headless(kubectl))
            yield found
        finally:
            managed = ("-l", "app.kubernetes.io/managed-by=slurmlet")
            kubectl("admin", "delete", REGISTERED, *managed)
            kubectl("admin", "delete", "namespace", HOME, "--wait=false")


def headless(kubectl: Kubectl) -> bool:
    """Whether a Service would be made, and headless."""
    item = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}},
    }
    dry = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    said = kubectl("admin", "-n", "alice", *dry, stdin=json.dumps(item), fails=None)
    return '"clusterIP": "None"' in said


@pytest.mark.claim("W23")
def test_one_of_two_replicas_goes_and_every_service_is_made(
    replicas: list[tuple[Site, subprocess.Popen[bytes]]], kubectl: Kubectl
) -> None:
    # The API server keeps its connection, so that one of them answers all.
    number = next(number for number, (site, _) in enumerate(replicas) if asked(site))
    (site, leaving), (other, _) = replicas[number], replicas[1 - number]
    assert asked(other) == 0
    # A Service takes a pod out when it is not ready any more, before it is stopped.
    gone = endpoints(number, site.port, ready=False)
    kubectl("admin", "apply", "-f", "-", stdin=json.dumps(gone))
    leaving.terminate()
    leaving.wait(timeout=SECONDS)
    assert all(headless(kubectl) for _ in range(TRIES))
    assert asked(other) == TRIES


def asked(site: Site) -> float:
    lines = site.get("/metrics")[1].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(DECISIONS))
