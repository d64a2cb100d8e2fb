"""Which certificate is served while its files change."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from slurmlet.webhook.certificate import Certificate

ENDS = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)


class Files:
    """A certificate and its key, written as a renewal does: one after the other."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.cert, self.key = directory / "webhook.crt", directory / "webhook.key"

    def issue(self, ca: trustme.CA | None = None, *, ends: datetime = ENDS) -> tuple[bytes, bytes]:
        leaf = (ca or self.ca).issue_cert("127.0.0.1", not_after=ends)
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        return chain, leaf.private_key_pem.bytes()

    def write(self, pair: tuple[bytes, bytes]) -> None:
        self.cert.write_bytes(pair[0])
        self.key.write_bytes(pair[1])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.write(files.issue())
    return files


@pytest.fixture
def certificate(files: Files) -> Certificate:
    return Certificate(cert=str(files.cert), key=str(files.key))


def served(certificate: Certificate) -> bytes:
    """The certificate that a client is shown, in DER; the handshake is made in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    client = trusting.wrap_bio(to_client, to_server)
    server = certificate.context().wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found


def der(pair: tuple[bytes, bytes]) -> bytes:
    first, _, _ = pair[0].decode().partition("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(f"{first}-----END CERTIFICATE-----\n")


def test_what_did_not_change_is_left_alone(certificate: Certificate) -> None:
    before = certificate.context()
    assert certificate.look() is None
    assert certificate.context() is before
    assert certificate.not_after == ENDS.timestamp()


@pytest.mark.claim("W90")
def test_a_renewed_pair_is_served_to_the_next_connection(
    certificate: Certificate, files: Files
) -> None:
    other = datetime(2032, 1, 1, tzinfo=UTC)
    renewed = files.issue(ends=other)
    files.write(renewed)
    assert certificate.look() == "success"
    assert served(certificate) == der(renewed)
    assert certificate.not_after == other.timestamp()
    assert certificate.look() is None


@pytest.mark.claim("W90")
@pytest.mark.parametrize("first", ["certificate", "key"])
def test_half_of_a_new_pair_changes_nothing(
    certificate: Certificate, files: Files, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, renewed = served(certificate), files.issue()
    (files.cert if first == "certificate" else files.key).write_bytes(
        renewed[0 if first == "certificate" else 1]
    )
    assert [certificate.look() for _ in range(3)] == ["failure", None, None]
    assert served(certificate) == before
    (line,) = caplog.messages
    assert "the earlier one is still served" in line
    assert "PRIVATE KEY" not in line
    files.write(renewed)
    assert certificate.look() == "success"
    assert served(certificate) == der(renewed)


@pytest.mark.parametrize("content", [None, b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nx"])
def test_files_that_cannot_be_used_change_nothing(
    certificate: Certificate, files: Files, content: bytes | None
) -> None:
    before, good = served(certificate), files.cert.read_bytes()
    if content is None:
        files.cert.unlink()
    else:
        files.cert.write_bytes(content)
    assert [certificate.look() for _ in range(3)] == ["failure", None, None]
    assert served(certificate) == before
    files.cert.write_bytes(good)
    assert certificate.look() == "success"


def test_what_is_written_while_it_is_read_counts_when_it_is_whole(
    certificate: Certificate, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain of the second pair lacks its end while it is read."""
    before, renewed = served(certificate), files.issue()
    whole = renewed[0] + files.issue()[0]
    files.write(renewed)
    load = Certificate._load

    def slowly(self: Certificate) -> tuple[ssl.SSLContext, float]:
        found = load(self)
        files.cert.write_bytes(whole)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Certificate, "_load", slowly)
        assert certificate.look() is None
    assert served(certificate) == before
    assert certificate.look() == "success"
    assert served(certificate) == der(renewed)


def test_at_the_start_the_pair_must_fit(files: Files) -> None:
    files.key.write_bytes(files.issue()[1])
    with pytest.raises(ssl.SSLError, match="mismatch"):
        Certificate(cert=str(files.cert), key=str(files.key))
