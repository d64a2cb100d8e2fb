"""slurmlet-sandbox's decisions: who gets one, with which ids, what is garbage."""

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.spank import config, make, munge, record, remove, subids
from slurmlet.spank._core import ffi, lib
from slurmlet.spank.layout import Sandbox
from slurmlet.spank.lock import locked
from slurmlet.spank.network import leases
from slurmlet.spank.process import ProcessError, run
from slurmlet.spank.record import Pin, Record

from .fakeos import message

HEAD = "STATUS:           Success (0)\nUID:              {uid}\nLENGTH:           {length}\n\n"


def decoded(payload: str, *, uid: int = 0, length: int | None = None) -> str:
    size = len(payload.encode()) if length is None else length
    return HEAD.format(uid=uid, length=size) + payload


def credential(**changes: object) -> str:
    return json.dumps({"version": 1, "uid": 2001, "podUID": "u", "mode": "host"} | changes)


def test_the_payload_of_roots_credential_is_taken() -> None:
    assert munge.payload_of_root(decoded('{"a": "ä"}\n\nb')) == '{"a": "ä"}\n\nb'


@pytest.mark.parametrize(
    "text",
    [
        decoded("x", uid=2001),
        decoded("x", length=2),
        "UID: 0\nUID: 2001\nLENGTH: 1\n\nx",
        "LENGTH: 1\n\nx",
        "nonsense",
        "",
    ],
)
def test_other_credentials_are_refused(text: str) -> None:
    with pytest.raises(munge.CredentialError):
        munge.payload_of_root(text)


def test_a_credential_grants_its_users_pod_a_sandbox() -> None:
    assert make.grant_of(credential(), uid=2001) == make.Grant(mode="host", pod_uid="u")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (credential(uid=2002), "the pod's credential is another user's"),
        (credential(version=2), "is not understood"),
        (credential(mode="x"), "is not understood"),
        (credential(uid="2001"), "is not understood"),
        (credential(uid=True), "is not understood"),
        (credential(podUID=1), "is not understood"),
        ("{}", "is not understood"),
        ("[]", "is not understood"),
        ("", "is not understood"),
    ],
)
def test_other_payloads_grant_nothing(payload: str, message: str) -> None:
    with pytest.raises(make.SandboxError, match=message):
        make.grant_of(payload, uid=2001)


@pytest.mark.parametrize(
    ("users", "allowed"), [("agent", False), ("all", True), ("no-such-group", False)]
)
def test_the_site_says_who_else_may_have_one(users: str, allowed: bool) -> None:
    settings = config.Settings(users=users)
    if allowed:
        made = make.granted(settings, uid=2001, mode="host", credential="")
        assert made == make.Grant(mode="host")
        return
    with pytest.raises(make.SandboxError, match="this site makes sandboxes for pods"):
        make.granted(settings, uid=2001, mode="host", credential="")


def test_the_user_is_root_and_ranges_follow() -> None:
    assert subids.lines(2001, [(200000, 65536), (400000, 10)]) == (
        "0 2001 1\n1 200000 65536\n65537 400000 10\n"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0: alice 200000 65536\n", [(200000, 65536)]),
        ("0: alice 1000 65536\n", []),
        ("0: alice 4294967000 65536\n", []),
        ("0: alice 200000 0\n", []),
        (
            "0: bob 265536 65536\n1: bob 300000 65536\n2: bob 331072 10\n",
            [(265536, 65536), (331072, 10)],
        ),
        ("No subuid range found for user alice\n", []),
        ("0: alice x 1\n", []),
        ("", []),
    ],
)
def test_ranges_are_read_from_getsubids(text: str, found: list[tuple[int, int]]) -> None:
    assert subids.ranges(text, own=2001) == found


def test_no_id_is_mapped_twice() -> None:
    """Large sites have people whose ids lie in what useradd gives away."""
    text = "0: carol 100000 65536\n1: carol 200000 65536\n"
    assert subids.ranges(text, own=100001) == [(200000, 65536)]


@given(st.text())
def test_any_text_is_ranges_of_people_or_nothing(text: str) -> None:
    assert all(
        first >= 65536 and first + count < 2**32 for first, count in subids.ranges(text, own=2001)
    )


def test_without_agreement_a_sandbox_has_one_id() -> None:
    maps = subids.maps_of(uid=2001, gid=3001, agreed="")
    assert (maps.uid_map, maps.gid_map, maps.single) == ("0 2001 1\n", "0 3001 1\n", True)
    assert subids.maps_of(uid=2001, gid=3001, agreed="0" * 64).single


def test_the_digest_is_of_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "a", tmp_path / "b"
    one.write_text("x")
    assert subids.digest([one, two]) == ""
    two.write_text("y")
    before = subids.digest([one, two])
    two.write_text("z")
    assert before
    assert subids.digest([one, two]) != before


def a_record(**changes: object) -> Record:
    facts: dict[str, object] = {
        "job": 12, "uid": 2001, "gid": 2001, "boot": "b", "host": "c1", "created": 1,
        "namespaces": {"user": Pin(dev=4, ino=101), "net": Pin(dev=4, ino=2**40)},
    }  # fmt: skip
    return Record(**(facts | changes))  # type: ignore[arg-type]


@given(st.text(), st.booleans())
def test_the_core_reads_what_is_written(error: str, failed: bool) -> None:
    text = record.encode(a_record(error=error if failed else "")).encode()
    found = ffi.new("struct slurmlet_record *")
    rc = lib.slurmlet_record_parse(ffi.new("char[]", text), len(text), found, message())
    # An error with what no C string holds is refused, which also keeps everyone out.
    if rc < 0:
        assert "\0" in error or len(error.encode()) > 1000 or "\\ud" in text.decode()
        return
    assert (found.job, found.uid, ffi.string(found.boot)) == (12, 2001, b"b")
    if not (failed and error):
        assert found.pins[3].inode == 2**40


def test_a_record_is_live_with_its_own_pins_only(tmp_path: Path) -> None:
    pin = tmp_path / "user"
    pin.touch()
    status = pin.stat()
    written = a_record(namespaces={"user": Pin(dev=status.st_dev, ino=status.st_ino)})
    data = json.loads(record.encode(written))
    assert record.is_live(data, uid=2001, boot="b", namespaces=tmp_path)
    assert not record.is_live(data, uid=2002, boot="b", namespaces=tmp_path)
    assert not record.is_live(data, uid=2001, boot="c", namespaces=tmp_path)
    assert not record.is_live(data | {"error": "x"}, uid=2001, boot="b", namespaces=tmp_path)
    pin.unlink()
    assert not record.is_live(data, uid=2001, boot="b", namespaces=tmp_path)


def test_a_record_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    record.write(path, "one", mode=0o644)
    record.write(path, "two", mode=0o640)
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    root = tmp_path / "12"
    root.mkdir()
    return Sandbox(root)


def test_a_newborn_is_no_garbage(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its maker holds the lock until the record is there; without either, the maker was killed."""
    monkeypatch.setattr(leases, "RESTING", tmp_path / "resting")
    with locked(sandbox.root):
        assert remove.collect(jobs=tmp_path) == []
    assert sandbox.root.exists()
    assert remove.is_garbage(sandbox, boot="b")
    sandbox.record.write_text(record.encode(a_record()))
    assert not remove.is_garbage(sandbox, boot="b")


def test_what_another_boot_left_is_garbage(sandbox: Sandbox) -> None:
    sandbox.record.write_text(record.encode(a_record()))
    assert remove.is_garbage(sandbox, boot="c")


def test_what_an_epilog_began_to_remove_is_garbage(sandbox: Sandbox) -> None:
    sandbox.record.write_text(record.encode(a_record()))
    sandbox.tombstone.touch()
    assert remove.is_garbage(sandbox, boot="b")


@pytest.mark.parametrize("running", [True, False])
def test_an_old_one_is_garbage_without_a_step(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    sandbox.record.write_text(record.encode(a_record()))
    old = time.time() - 90000
    os.utime(sandbox.root, (old, old))
    monkeypatch.setattr(config, "load", lambda: config.Settings(spool_dir=str(tmp_path)))
    if running:
        (tmp_path / "c1_12.4294967291").touch()
    (tmp_path / "c1_120.0").touch()
    assert remove.is_garbage(sandbox, boot="b") is not running


def test_a_program_is_bounded_in_time_and_tells_its_last_words() -> None:
    assert run(["/bin/cat"], stdin=b"x") == "x"
    with pytest.raises(ProcessError, match="no end after"):
        run(["/bin/sleep", "30"], timeout=0.1)
    with pytest.raises(ProcessError, match="/bin/sh: sorry"):
        run(["/bin/sh", "-c", "echo sorry; exit 3"])
    with pytest.raises(ProcessError, match="/nowhere: No such file"):
        run(["/nowhere"])


def test_a_program_gets_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_X", "evil")
    assert "evil" not in run(["/usr/bin/env"])


def test_users_pass_through_a_sandbox_but_cannot_open_it_to_lock_it(tmp_path: Path) -> None:
    """flock(2) asks for no more than an open file: one that all may read, any user could hold."""
    with locked(tmp_path / "7", make=True):
        assert (tmp_path / "7").stat().st_mode & 0o777 == 0o711
