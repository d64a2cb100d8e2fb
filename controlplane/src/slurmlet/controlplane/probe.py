"""Asking a running API server whether it is ready."""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from slurmlet.controlplane.layout import LOOPBACK

TIMEOUT_S = 3.0
"""For one request on the same host."""

SERVICE_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"
"""Exists as soon as the controller-manager works; no pod can be created before."""


class Probe:
    """GETs as the cluster's admin. Built after the PKI."""

    def __init__(
        self, *, address: str, port: int, controller_manager_port: int, pki_dir: Path
    ) -> None:
        self._context = ssl.create_default_context(cafile=str(pki_dir / "ca.crt"))
        self._context.load_cert_chain(pki_dir / "admin.crt", pki_dir / "admin.key")
        self._address = address
        self._port = port
        # Its certificate is made at start and kept in memory: there is nothing to check it with,
        # and nothing secret is sent.
        self._unchecked = ssl.create_default_context()
        self._unchecked.check_hostname = False
        self._unchecked.verify_mode = ssl.CERT_NONE
        self._controller_manager_port = controller_manager_port

    def get(self, path: str) -> tuple[int, bytes]:
        """The API server's status and body; status 0 where nobody answers."""
        return _get(
            http.client.HTTPSConnection(
                self._address, self._port, context=self._context, timeout=TIMEOUT_S
            ),
            path,
        )

    def controllers_answer(self) -> bool:
        """Whether the controller-manager on this host is healthy."""
        status, _ = _get(
            http.client.HTTPSConnection(
                LOOPBACK, self._controller_manager_port, context=self._unchecked, timeout=TIMEOUT_S
            ),
            "/healthz",
        )
        return status == 200

    def not_ready(self) -> str | None:
        """What is still missing; None when the API serves and the controllers work."""
        status, body = self.get("/readyz")
        if status != 200:
            return f"/readyz answers {status}: {body[-200:].decode(errors='replace').strip()}"
        status, body = self.get(SERVICE_ACCOUNT)
        if status != 200:
            return "the controller-manager has not made the default service account yet"
        if not self.controllers_answer():
            return "the controller-manager does not answer"
        return None

    def get_json(self, path: str) -> Any:
        """The parsed answer; raises OSError unless the status is 200."""
        status, body = self.get(path)
        if status != 200:
            raise OSError(f"GET {path} answers {status}: {body[:200].decode(errors='replace')}")
        return json.loads(body)


def _get(connection: http.client.HTTPSConnection, path: str) -> tuple[int, bytes]:
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error).encode()
    finally:
        connection.close()
