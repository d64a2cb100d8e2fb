from pathlib import Path

import pytest
import trustme

from slurmlet.common.config import ConfigError
from slurmlet.webhook.__main__ import _read_ca
from slurmlet.webhook.bundle import certificates_of

OLD, NEW = trustme.CA(), trustme.CA()


def pem(ca: trustme.CA) -> bytes:
    return ca.cert_pem.bytes()


def test_one_and_several_certificates_are_taken_as_they_are() -> None:
    assert certificates_of(pem(OLD)) == pem(OLD)
    assert certificates_of(b"# old\n" + pem(OLD) + b"\n" + pem(NEW)) == pem(OLD) + pem(NEW)


@pytest.mark.claim("W98")
def test_a_key_beside_them_goes_nowhere() -> None:
    key = OLD.private_key_pem.bytes()
    assert certificates_of(key + pem(OLD) + key + pem(NEW)) == pem(OLD) + pem(NEW)


@pytest.mark.claim("W98")
@pytest.mark.parametrize(
    "content",
    [b"", b"no PEM", OLD.private_key_pem.bytes(), pem(OLD)[:-40], pem(OLD) + pem(NEW)[:200]],
    ids=["empty", "text", "key", "cut", "second-cut"],
)
def test_a_file_without_a_certificate_is_named_with_the_remedy(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        _read_ca(str(file))
    assert str(refused.value) == (
        f"--ca-file {file}: not one or more certificates in PEM; give the CA of the serving"
        " certificate, or, while it is replaced, the old and the new one"
    )
