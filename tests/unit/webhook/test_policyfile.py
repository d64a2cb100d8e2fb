"""Which snapshot counts: the last good one, and of a stale one no size."""

import json
import time
from pathlib import Path

import pytest

from slurmlet.contracts.identity import Identity, IdentityMap
from slurmlet.contracts.policy import (
    MAX_BYTES,
    NOTHING_KNOWN,
    STALE_SECONDS,
    NodeSize,
    Snapshot,
    encode,
)
from slurmlet.webhook.policyfile import PolicyFile


def snapshot(user: str = "alice", *, written: float | None = None) -> Snapshot:
    return Snapshot(
        written=time.time() if written is None else written,
        identities=IdentityMap(namespaces={"alice": Identity(user=user)}),
        sizes={"cpu": (NodeSize(cpus=4, memory=8000),)},
    )


def publish(path: Path, content: str | bytes) -> None:
    """As the agent does."""
    partial = path.with_suffix(".new")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.json"


def test_without_a_file_nothing_is_known_and_that_is_said_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = PolicyFile(str(path))
    for _ in range(3):
        policy.look()
    assert policy.current() == NOTHING_KNOWN
    assert policy.age() == float("inf")
    (line,) = caplog.messages
    assert line == f"policy snapshot {path}: No such file or directory; nothing is known"


def test_a_new_file_counts_from_the_next_look_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = PolicyFile(str(path))
    for wanted in (snapshot("alice"), snapshot("bob")):
        publish(path, encode(wanted))
        assert policy.current() != wanted
        policy.look()
        assert policy.current() == wanted
    assert 0 <= policy.age() < 60
    assert caplog.messages == []


def test_a_file_that_did_not_change_is_not_read_again(path: Path) -> None:
    publish(path, encode(snapshot()))
    policy = PolicyFile(str(path))
    policy.look()
    first = policy.current()
    policy.look()
    assert policy.current() is first


@pytest.mark.claim("W93")
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        (b"", "no policy snapshot: Expecting value"),
        (b'{"version": 1, "written": 17', "no policy snapshot: "),
        (b"\xff\xfe", "no policy snapshot: "),
        (json.dumps({"version": 2, "written": 1}), "policy.version: 2; this release reads 1"),
        (json.dumps({"identities": 7}), "policy.identities"),
        (b" " * (MAX_BYTES + 1), f"more than {MAX_BYTES} bytes"),
    ],
)
def test_what_cannot_be_read_leaves_the_last_one_in_force_and_is_said_once(
    path: Path, content: str | bytes | None, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    policy = PolicyFile(str(path))
    good = snapshot()
    publish(path, encode(good))
    policy.look()
    if content is None:
        path.unlink()
    else:
        publish(path, content)
    for _ in range(3):
        policy.look()
    assert policy.current() == good
    (line,) = caplog.messages
    assert line.startswith(f"policy snapshot {path}: ")
    assert why in line
    assert line.endswith("; the last one counts")
    publish(path, encode(snapshot("bob")))
    policy.look()
    assert policy.current() != good
    assert caplog.messages[1:] == [f"policy snapshot {path}: in use again"]


@pytest.mark.claim("W93")
def test_of_a_stale_one_no_size_counts_until_it_is_written_again(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    now = [1000.0]
    monkeypatch.setattr("slurmlet.webhook.policyfile.time.time", lambda: now[0])
    publish(path, encode(snapshot(written=now[0])))
    policy = PolicyFile(str(path))
    policy.look()
    now[0] += STALE_SECONDS
    policy.look()
    assert "cpu" in policy.current().sizes
    now[0] += 1
    assert policy.current().sizes == {}, "no look is needed for it"
    for _ in range(3):
        policy.look()
    assert policy.current().identities == snapshot().identities
    assert policy.age() == STALE_SECONDS + 1
    (line,) = caplog.messages
    assert "no pod is refused for its size" in line
    publish(path, encode(snapshot(written=now[0])))
    policy.look()
    assert "cpu" in policy.current().sizes
    assert caplog.messages[1:] == [f"policy snapshot {path}: in use again"]
