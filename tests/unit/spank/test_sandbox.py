"""Opening a sandbox: each check, and each failure of the system at each step of it."""

import errno
import stat
from typing import Any

import pytest

from slurmlet.spank._core import ffi, lib

from .fakeos import JOB, JOBS, UID, FakeOS, Node, directory, message, namespace, text_of
from .world import ROOT, record, running_pod


def open_sandbox(fake: FakeOS) -> tuple[int, str, Any]:
    sandbox, why, ops = ffi.new("struct slurmlet_sandbox *"), message(), fake.ops()
    lib.slurmlet_sandbox_init(sandbox)
    code = lib.slurmlet_sandbox_open(ops, JOBS.encode(), JOB, sandbox, why)
    if code == 0:
        lib.slurmlet_sandbox_close(ops, sandbox)
    assert not fake.open_fds, "descriptors leak"
    return code, text_of(why), sandbox


def test_a_good_one_opens_and_closes() -> None:
    code, _, sandbox = open_sandbox(running_pod())
    assert code == 0
    assert (sandbox.record.job, sandbox.record.uid) == (JOB, UID)


def test_a_job_without_sandbox_is_told() -> None:
    fake = running_pod()
    del fake.nodes[ROOT]
    assert open_sandbox(fake)[:2] == (-errno.ENOENT, "job 12 has no pod sandbox on this node")


@pytest.mark.parametrize(
    ("path", "node"),
    [
        (JOBS, directory(uid=UID)),
        (JOBS, directory(mode=0o777)),
        (ROOT, directory(uid=UID)),
        (ROOT, directory(mode=0o775)),
        (ROOT, Node(mode=stat.S_IFLNK | 0o777)),
        (f"{ROOT}/record.json", Node(content=record(), uid=UID)),
        (f"{ROOT}/record.json", Node(content=record(), mode=stat.S_IFREG | 0o666)),
        (f"{ROOT}/record.json", Node(content=record(), mode=stat.S_IFIFO | 0o644)),
        (f"{ROOT}/record.json", Node(content=record(), mode=stat.S_IFLNK | 0o777)),
        (f"{ROOT}/record.json", Node(content=b" " * 65537)),
        (f"{ROOT}/ns", directory(uid=UID)),
        (f"{ROOT}/ns", Node(mode=stat.S_IFLNK | 0o777)),
        (f"{ROOT}/pod", Node(mode=stat.S_IFLNK | 0o777)),
    ],
)
def test_what_root_did_not_write_is_refused(path: str, node: Node) -> None:
    fake = running_pod()
    fake.nodes[path] = node
    code, why, _ = open_sandbox(fake)
    assert code < 0
    assert why


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"job": 13}, "the sandbox is of job 13, not 12"),
        ({"uid": 2002}, "job 12 is another user's"),
        ({"boot": "other"}, "the sandbox is of an earlier boot of this node"),
        ({"boot": ""}, "the sandbox is of an earlier boot of this node"),
        ({"error": "no ids"}, "the sandbox could not be made: no ids"),
        ({"version": 2}, "the sandbox's record is not of version 1"),
        ({"namespaces": {}}, "the sandbox's record names no user namespace"),
        ({"namespaces": {"user": {"dev": 4}}}, "the sandbox's record names no namespaces"),
        ({"namespaces": []}, "the sandbox's record names no namespaces"),
        ({"uid": -1}, "the sandbox's record lacks job, uid, gid or boot"),
        ({"uid": "2001"}, "the sandbox's record lacks job, uid, gid or boot"),
        ({"job": 2**32}, "the sandbox's record lacks job, uid, gid or boot"),
    ],
)
def test_what_the_record_says_counts(changes: dict[str, Any], message: str) -> None:
    fake = running_pod()
    fake.nodes[f"{ROOT}/record.json"].content = record(**changes)
    code, why, _ = open_sandbox(fake)
    assert code < 0
    assert why == message


def test_another_user_is_refused() -> None:
    fake = running_pod()
    fake.uid = 2002
    assert open_sandbox(fake)[:2] == (-errno.EPERM, "job 12 is another user's")


@pytest.mark.parametrize("kind", ["user", "ipc", "uts"])
@pytest.mark.parametrize(
    "node",
    [
        namespace(999),
        Node(device=4, inode=101),
        Node(mode=stat.S_IFLNK | 0o777),
        Node(mode=stat.S_IFIFO | 0o666),
    ],
    ids=["another", "no-namespace", "link", "fifo"],
)
def test_a_pin_must_be_the_recorded_namespace(kind: str, node: Node) -> None:
    fake = running_pod()
    fake.nodes[f"{ROOT}/ns/{kind}"] = node
    code, why, _ = open_sandbox(fake)
    assert code < 0
    assert f"the sandbox's {kind} namespace" in why


def test_every_failure_of_the_system_is_refused_and_leaks_nothing() -> None:
    rehearsal = running_pod()
    assert open_sandbox(rehearsal)[0] == 0
    for call in dict.fromkeys(rehearsal.calls):
        fake = running_pod()
        fake.faults[call] = errno.EIO
        code, why, _ = open_sandbox(fake)
        assert code == -errno.EIO, call
        assert why, call
