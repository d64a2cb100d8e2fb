"""The nodes' heartbeats, as a process of its own that outlives the agent's crashes and upgrades.

Standard library only: it stays at 16 MiB and has nothing that could hang with the agent.
"""

import argparse
import http.client
import json
import signal
import ssl
import sys
import threading
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slurmlet.contracts.codec import CodecError, decode
from slurmlet.contracts.names import CONFIG_FILE
from slurmlet.kubelet.config import Kubelet, VirtualNode, problems, virtual_nodes

RENEW_SECONDS = 10
"""As kubelet does: a quarter of the lease's length."""
LEASE_SECONDS = 40
TIMEOUT_SECONDS = 8
"""Of one request: less than the time to the next renewal."""
NAMESPACE_PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
MAX_ANSWER = 1024 * 1024


class LeaseError(Exception):
    """The lease could not be renewed this time."""


def renew(config: Kubelet, node: VirtualNode) -> None:
    """Write the present time into the lease of a node, which is made if it is absent.

    Raises:
        LeaseError: the API server refused, or did not answer in time.
    """
    path = f"{NAMESPACE_PATH}/{node.name}"
    spec = {
        "holderIdentity": node.name,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    status, answer = _request(config, node, "PATCH", path, {"spec": spec})
    if status == 404:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": node.name, "namespace": "kube-node-lease"},
            "spec": spec,
        }
        status, answer = _request(config, node, "POST", NAMESPACE_PATH, lease)
    if status >= 300:
        raise LeaseError(f"the API server answered {status}: {answer.get('message', '')}")


def main() -> int:
    """Renew until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="slurmlet-lease", description="Keeps the leases of the virtual nodes."
    )
    parser.add_argument("--config", default=CONFIG_FILE, metavar="FILE")
    path = parser.parse_args().config
    try:
        table = tomllib.loads(Path(path).read_text()).get("kubelet", {})
        config = decode(Kubelet, table, path="kubelet")
    except (OSError, tomllib.TOMLDecodeError, CodecError) as error:
        print(f"{path}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    found = problems(config)
    if found:
        print("\n".join(f"{path}: {problem}" for problem in found), file=sys.stderr)  # noqa: T201
        return 1
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    # One each, so that a request without an answer makes no other node's heartbeat late.
    for node in virtual_nodes(config):
        threading.Thread(target=keep, args=(config, node, stopped), daemon=True).start()
    stopped.wait()
    return 0


def keep(config: Kubelet, node: VirtualNode, stopped: threading.Event) -> None:
    """Renew the lease of a node until `stopped`; what is wrong is said once."""
    said = ""
    while not stopped.is_set():
        started = time.monotonic()
        problem = ""
        try:
            renew(config, node)
        except LeaseError as error:
            problem = f"lease of {node.name}: {error}"
        if problem != said:
            print(problem or f"lease of {node.name} is renewed", file=sys.stderr)  # noqa: T201
            said = problem
        stopped.wait(max(0.0, RENEW_SECONDS - (time.monotonic() - started)))


def _request(
    config: Kubelet, node: VirtualNode, method: str, path: str, body: Any
) -> tuple[int, dict[str, Any]]:
    server = urlsplit(config.server)
    try:
        # Certificates are read anew each time, so that renewed ones are used at once.
        context = ssl.create_default_context(cafile=config.ca)
        context.load_cert_chain(node.client_cert, node.client_key)
        connection = http.client.HTTPSConnection(
            server.hostname or "", server.port or 443, timeout=TIMEOUT_SECONDS, context=context
        )
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": kind})
            response = connection.getresponse()
            data = json.loads(response.read(MAX_ANSWER))
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LeaseError(f"{config.server}: {error}") from None
    return response.status, data if isinstance(data, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
