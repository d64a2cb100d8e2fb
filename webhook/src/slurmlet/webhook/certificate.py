"""The serving certificate, taken over when its files change."""

import hashlib
import logging
import ssl
from pathlib import Path
from typing import Literal

from cryptography import x509

from slurmlet.common.tls import server_context
from slurmlet.webhook.promptsocket import PromptSocket

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""Between looks at the files' content, a few KiB: a mounted Secret tells of no change."""

Result = Literal["success", "failure"]


class Certificate:
    """A certificate chain and its key in PEM files, as the last pair of them that fitted together.

    `not_after` is when the first certificate ends, in Unix time.
    """

    def __init__(self, *, cert: str, key: str) -> None:
        """Raises OSError, ssl.SSLError, ValueError: they cannot be used."""
        self._cert, self._key = Path(cert), Path(key)
        self._seen = self._digest()
        self._context, self.not_after = self._load()

    def context(self) -> ssl.SSLContext:
        """For the next connection; others keep theirs. It is replaced as a whole and never changed,
        so no handshake can meet a certificate whose key is yet to come."""
        return self._context

    def look(self) -> Result | None:
        """Take over what has changed, if it can be used; None if nothing has."""
        found = self._digest()
        if found == self._seen:
            return None
        try:
            context, not_after = self._load()
        except (OSError, ValueError) as error:
            self._seen = found
            log.error(
                "certificate %s with key %s: %s; the earlier one is still served",
                self._cert,
                self._key,
                error,
            )
            return "failure"
        if self._digest() != found:
            # Written while it was read: whole at the next look.
            return None
        self._seen, self._context, self.not_after = found, context, not_after
        log.info("certificate %s: changed, and served from now on", self._cert)
        return "success"

    def _load(self) -> tuple[ssl.SSLContext, float]:
        context = server_context(cert=str(self._cert), key=str(self._key))
        context.sslsocket_class = PromptSocket
        leaf = x509.load_pem_x509_certificate(self._cert.read_bytes())
        return context, leaf.not_valid_after_utc.timestamp()

    def _digest(self) -> bytes:
        """Of both files; one that is not there counts as another content."""
        try:
            contents = [path.read_bytes() for path in (self._cert, self._key)]
        except OSError as error:
            contents = [str(error).encode()]
        return b"".join(hashlib.sha256(content).digest() for content in contents)
