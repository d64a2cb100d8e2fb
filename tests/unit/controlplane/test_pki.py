import base64
import json
import os
import pwd
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.controlplane import certificates, pki
from slurmlet.controlplane.certificates import Request
from slurmlet.controlplane.cli import main
from slurmlet.controlplane.errors import ControlPlaneError
from slurmlet.controlplane.store import Store

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SITE = Request(sans=("10.77.0.1", "ctl"), nodes=("slurm",), users=("alice", "bob"))
SERVER = "https://10.77.0.1:6443"


def ensure(
    directory: Path,
    request: Request = SITE,
    *,
    now: datetime = NOW,
    server: str = SERVER,
    renew: bool = False,
    renew_authorities: bool = False,
    dry: bool = False,
    owner: str | None = None,
) -> set[str]:
    written = pki.ensure(
        Store(directory, dry=dry, owner=owner),
        request,
        server=server,
        now=now,
        renew=renew,
        renew_authorities=renew_authorities,
    )
    return {str(path.relative_to(directory)) for path in written}


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def snapshot(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_second_run_writes_nothing(tmp_path: Path) -> None:
    assert ensure(tmp_path) == set(snapshot(tmp_path))
    before = snapshot(tmp_path)
    assert ensure(tmp_path, now=NOW + timedelta(days=200)) == set()
    assert snapshot(tmp_path) == before


def test_the_layout_is_the_agreed_one(tmp_path: Path) -> None:
    pairs = [
        *("ca", "front-proxy-ca", "front-proxy-client", "apiserver", "apiserver-kubelet-client"),
        *("etcd-server", "apiserver-etcd-client", "node-slurm", "kubelet", "webhook"),
        *("scheduler", "controller-manager", "dns", "admin"),
    ]
    assert ensure(tmp_path) == {
        *(f"{name}.{suffix}" for name in pairs for suffix in ("crt", "key")),
        *(
            "sa.key",
            "sa.pub",
            "admin.conf",
            "controller-manager.conf",
            "scheduler.conf",
            "dns.conf",
        ),
        *("users/alice.conf", "users/bob.conf"),
    }


def test_keys_and_kubeconfigs_are_private(tmp_path: Path) -> None:
    ensure(tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            public = path.suffix in (".crt", ".pub")
            assert path.stat().st_mode & 0o777 == (0o644 if public else 0o600), path


@pytest.mark.parametrize(
    ("file", "name", "group"),
    [
        ("admin", "admin", "system:masters"),
        ("node-slurm", "system:node:slurm", "system:nodes"),
        ("scheduler", "system:kube-scheduler", None),
        ("dns", "slurmlet:dns", None),
        ("controller-manager", "system:kube-controller-manager", None),
        ("kubelet", "system:node:slurm", None),
    ],
)
def test_subjects_are_what_kubernetes_expects(
    tmp_path: Path, file: str, name: str, group: str | None
) -> None:
    ensure(tmp_path)
    subject = load(tmp_path / f"{file}.crt").subject
    assert subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == name
    groups = subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    assert [one.value for one in groups] == ([group] if group else [])


@pytest.mark.parametrize("file", ["apiserver", "kubelet", "webhook"])
def test_serving_certificates_carry_the_names_of_the_host(tmp_path: Path, file: str) -> None:
    ensure(tmp_path)
    names = load(tmp_path / f"{file}.crt").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert {"ctl", "localhost"} <= set(names.value.get_values_for_type(x509.DNSName))
    addresses = {str(one) for one in names.value.get_values_for_type(x509.IPAddress)}
    assert {"10.77.0.1", "127.0.0.1"} <= addresses


def test_no_user_can_pass_for_etcds_client(tmp_path: Path) -> None:
    ensure(tmp_path)
    config = json.loads((tmp_path / "users/alice.conf").read_text())
    pem = base64.b64decode(config["users"][0]["user"]["client-certificate-data"])
    certificate = x509.load_pem_x509_certificate(pem)
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_the_last_third_of_life_renews_leaves_and_not_the_authority(tmp_path: Path) -> None:
    ensure(tmp_path)
    written = ensure(tmp_path, now=NOW + timedelta(days=250))
    assert {"admin.crt", "admin.key", "admin.conf", "users/alice.conf"} <= written
    assert not {"ca.crt", "ca.key", "front-proxy-ca.key", "sa.key", "sa.pub"} & written


def test_another_name_renews_only_what_carries_it(tmp_path: Path) -> None:
    ensure(tmp_path)
    other = Request(sans=(*SITE.sans, "login"), nodes=SITE.nodes, users=SITE.users)
    names = ("apiserver", "kubelet", "webhook")
    assert ensure(tmp_path, other) == {f"{n}.{s}" for n in names for s in ("crt", "key")}


def test_another_server_rewrites_kubeconfigs_and_keeps_their_keys(tmp_path: Path) -> None:
    ensure(tmp_path)
    before = json.loads((tmp_path / "users/alice.conf").read_text())
    written = ensure(tmp_path, server="https://ctl:6443")
    assert all(name.endswith(".conf") for name in written) and len(written) == 6
    after = json.loads((tmp_path / "users/alice.conf").read_text())
    assert after["users"] == before["users"]
    assert after["clusters"][0]["cluster"]["server"] == "https://ctl:6443"


def test_renew_makes_all_leaves_anew_under_the_same_authority(tmp_path: Path) -> None:
    ensure(tmp_path)
    authority = (tmp_path / "ca.crt").read_bytes()
    serial = load(tmp_path / "admin.crt").serial_number
    ensure(tmp_path, renew=True)
    assert (tmp_path / "ca.crt").read_bytes() == authority
    assert load(tmp_path / "admin.crt").serial_number != serial
    load(tmp_path / "admin.crt").verify_directly_issued_by(load(tmp_path / "ca.crt"))


def test_a_renewed_authority_still_vouches_for_old_leaves(tmp_path: Path) -> None:
    ensure(tmp_path)
    old_leaf = load(tmp_path / "admin.crt")
    old_ca = load(tmp_path / "ca.crt")
    ensure(tmp_path, now=NOW + timedelta(days=30), renew=True, renew_authorities=True)
    new_ca = load(tmp_path / "ca.crt")
    assert new_ca.not_valid_after_utc > old_ca.not_valid_after_utc
    old_leaf.verify_directly_issued_by(new_ca)


@pytest.mark.parametrize("lost", ["ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key"])
def test_half_an_authority_is_an_error_and_nothing_is_written(tmp_path: Path, lost: str) -> None:
    ensure(tmp_path)
    (tmp_path / lost).unlink()
    before = snapshot(tmp_path)
    with pytest.raises(ControlPlaneError, match=f"{lost} is missing beside"):
        ensure(tmp_path)
    assert snapshot(tmp_path) == before


def test_a_lost_authority_is_never_replaced_silently(tmp_path: Path) -> None:
    ensure(tmp_path)
    (tmp_path / "ca.crt").unlink()
    (tmp_path / "ca.key").unlink()
    with pytest.raises(ControlPlaneError, match=r"neither ca.crt nor ca.key"):
        ensure(tmp_path)


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "sa.key"])
def test_a_damaged_root_of_trust_is_an_error(tmp_path: Path, name: str) -> None:
    ensure(tmp_path)
    (tmp_path / name).write_bytes(b"-----BEGIN rubbish")
    with pytest.raises(ControlPlaneError, match="damaged"):
        ensure(tmp_path)


@pytest.mark.parametrize("name", ["admin.crt", "admin.key", "users/bob.conf"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\x00"])
def test_a_lost_or_damaged_leaf_is_made_again(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    ensure(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    assert name in ensure(tmp_path)
    assert ensure(tmp_path) == set()


def test_a_crash_between_key_and_certificate_heals(tmp_path: Path) -> None:
    ensure(tmp_path)
    (tmp_path / "kubelet.key").write_bytes(certificates.key_pem(certificates.new_key()))
    assert ensure(tmp_path) == {"kubelet.key", "kubelet.crt"}


def test_too_wide_rights_are_narrowed_and_reported(tmp_path: Path) -> None:
    ensure(tmp_path)
    (tmp_path / "admin.conf").chmod(0o644)
    assert ensure(tmp_path) == {"admin.conf"}
    assert (tmp_path / "admin.conf").stat().st_mode & 0o777 == 0o600


def test_a_dry_run_tells_all_and_writes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    told = ensure(directory, dry=True, owner="no-such-user-yet")
    assert not directory.exists()
    assert told == ensure(directory)
    assert ensure(directory, dry=True) == set()


def test_own_user_as_owner_changes_nothing(tmp_path: Path) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    ensure(tmp_path, owner=me)
    assert ensure(tmp_path, owner=me) == set()
    with pytest.raises(ControlPlaneError, match="no such user"):
        ensure(tmp_path, owner="no-such-user")


def test_an_ended_authority_says_what_to_do(tmp_path: Path) -> None:
    ensure(tmp_path)
    with pytest.raises(ControlPlaneError, match="renew --ca"):
        ensure(tmp_path, now=NOW + timedelta(days=4000))
    ensure(tmp_path, now=NOW + timedelta(days=4000), renew_authorities=True)
    assert ensure(tmp_path, now=NOW + timedelta(days=4001)) == set()


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (Request(sans=()), "--san is missing"),
        (Request(sans=("a b",)), "--san 'a b'"),
        (Request(sans=("x",), users=("../root",)), "--user '../root'"),
        (Request(sans=("x",), users=("system:masters",)), "--user 'system:masters'"),
        (Request(sans=("x",), nodes=("Slurm_1",)), "--node 'Slurm_1'"),
        (Request(sans=("x",), nodes=("n" * 60,)), "at most 52"),
    ],
)
def test_bad_names_are_refused(tmp_path: Path, request_: Request, part: str) -> None:
    with pytest.raises(ControlPlaneError, match=part):
        ensure(tmp_path / "pki", request_)
    assert not (tmp_path / "pki").exists()


@given(st.text(max_size=80))
def test_no_user_name_leaves_the_directory(name: str) -> None:
    try:
        pki.check(Request(sans=("x",), users=(name,)))
    except ControlPlaneError:
        return
    assert "/" not in name and not name.startswith(".") and ":" not in name
    certificates.new_leaf(certificates.user_leaf(name), KEY, ca=AUTHORITY, ca_key=KEY, now=NOW)


KEY = certificates.new_key()
AUTHORITY = certificates.new_authority("test", KEY, now=NOW)


@pytest.mark.parametrize(
    ("left", "due"), [(timedelta(days=122), False), (timedelta(days=121), True)]
)
def test_renewal_begins_with_the_last_third(left: timedelta, due: bool) -> None:
    leaf = certificates.new_leaf(
        certificates.user_leaf("alice"), KEY, ca=AUTHORITY, ca_key=KEY, now=NOW
    )
    at = leaf.not_valid_after_utc - left
    assert certificates.needs_renewal(leaf, now=at) is due


def test_the_command_prints_files_then_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["pki", "ensure", "--dir", str(tmp_path), "--san", "10.0.0.1", "--user", "alice"]
    assert main(arguments) == 0
    assert str(tmp_path / "users/alice.conf") in capsys.readouterr().out.splitlines()
    assert main(arguments) == 0
    assert capsys.readouterr().out == ""
    assert main(["pki", "ensure", "--dir", str(tmp_path), "--san", "ctl"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_takes_the_service_range_from_the_config(tmp_path: Path) -> None:
    config = tmp_path / "slurmlet.toml"
    config.write_text(
        '[controlplane]\nadvertise_address = "10.0.0.1"\nservice_cidr = "172.30.0.0/16"\n'
    )
    arguments = ["pki", "ensure", "--config", str(config), "--dir", str(tmp_path / "pki")]
    assert main([*arguments, "--san", "10.0.0.1"]) == 0
    names = load(tmp_path / "pki" / "apiserver.crt").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "172.30.0.1" in {str(one) for one in names.value.get_values_for_type(x509.IPAddress)}
    config.write_text("[controlplane]\nservice_range = 1\n")
    assert main([*arguments, "--san", "10.0.0.1"]) == 1
    config.write_text("[kubelet]\n")
    assert main([*arguments, "--san", "10.0.0.1"]) == 0
