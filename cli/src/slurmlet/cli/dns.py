"""One question to a DNS server (RFC 1035)."""

import os
import socket
import struct

from slurmlet.cli.finding import Finding

SECONDS = 3.0
_PORT = 53
_NO_ERROR = 0


def examine(server: str, *, domain: str) -> list[Finding]:
    """A server of the cluster knows the API server's Service, which always exists."""
    name = f"kubernetes.default.svc.{domain}"
    remedy = "see systemctl status slurmlet-dns on the control host, and that UDP port 53 is open"
    try:
        code, answers = ask(server, name)
    except OSError as error:
        return [Finding(f"DNS server {server}: {error.strerror or 'no answer'}: {remedy}")]
    if code != _NO_ERROR or not answers:
        return [Finding(f"DNS server {server} does not know {name} (code {code}): {remedy}")]
    return []


def ask(server: str, name: str, *, port: int = _PORT) -> tuple[int, int]:
    """The answer's code and number of records for a name's addresses. Raises OSError."""
    number = struct.unpack(">H", os.urandom(2))[0]
    labels = b"".join(bytes([len(word)]) + word.encode() for word in name.split("."))
    header = struct.pack(">6H", number, 0x0100, 1, 0, 0, 0)
    question = header + labels + b"\0" + struct.pack(">2H", 1, 1)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as link:
        link.settimeout(SECONDS)
        link.connect((server, port))
        link.send(question)
        answer = link.recv(4096)
    if len(answer) < 12 or answer[:2] != question[:2]:
        raise OSError(0, "an answer that is none")
    _, flags, _, answers = struct.unpack(">4H", answer[:8])
    return flags & 15, answers
