"""Asking a running API server whether it is ready."""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

TIMEOUT_S = 3.0
"""For one request on the same host."""

SERVICE_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"
"""Exists as soon as the controller-manager works; no pod can be created before."""


class Probe:
    """GETs as the cluster's admin. Built after the PKI."""

    def __init__(self, *, address: str, port: int, pki_dir: Path) -> None:
        self._context = ssl.create_default_context(cafile=str(pki_dir / "ca.crt"))
        self._context.load_cert_chain(pki_dir / "admin.crt", pki_dir / "admin.key")
        self._address = address
        self._port = port

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; status 0 where nobody answers."""
        connection = http.client.HTTPSConnection(
            self._address, self._port, context=self._context, timeout=TIMEOUT_S
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error).encode()
        finally:
            connection.close()

    def not_ready(self) -> str | None:
        """What is still missing; None when the API serves and the controllers work."""
        status, body = self.get("/readyz")
        if status != 200:
            return f"/readyz answers {status}: {body[-200:].decode(errors='replace').strip()}"
        status, body = self.get(SERVICE_ACCOUNT)
        if status != 200:
            return "the controller-manager has not made the default service account yet"
        return None

    def get_json(self, path: str) -> Any:
        """The parsed answer; raises OSError unless the status is 200."""
        status, body = self.get(path)
        if status != 200:
            raise OSError(f"GET {path} answers {status}: {body[:200].decode(errors='replace')}")
        return json.loads(body)
