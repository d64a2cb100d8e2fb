"""Entering a pod while the system fails, or the user changes files, at every single step of it."""

import errno
import os
import stat
from collections.abc import Callable

import pytest

from .fakeos import BOOT, UID, FakeOS, Node, directory, namespace
from .test_container import LEFT_OUT, enter
from .world import PID, PROC, ROOT, hint, record, running_pod, stat_line, status

ERRNOS = (
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ESRCH, errno.EIO, errno.ELOOP),
    *(errno.ENOTDIR, errno.EMFILE, errno.ENOMEM, errno.EINVAL),
)


def rehearsed(*, left_out: int = 0) -> FakeOS:
    fake = running_pod()
    assert enter(fake, left_out=left_out)[0] == 0
    return fake


def failing(number: int) -> Callable[[], int]:
    return lambda: number


@pytest.mark.parametrize("number", ERRNOS, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("left_out", [0, LEFT_OUT["mnt"] | LEFT_OUT["pid"]], ids=["all", "debug"])
def test_a_failure_at_any_call_keeps_the_step_out(number: int, left_out: int) -> None:
    """With a sentence, without a descriptor left, and having joined no more than came before."""
    good = rehearsed(left_out=left_out)
    for step, call in enumerate(good.calls):
        fake = running_pod()
        fake.events[step] = failing(number)
        code, why = enter(fake, left_out=left_out)
        assert code < 0, (step, call)
        assert why, (step, call)
        assert fake.done == good.done[: len(fake.done)], (step, call)
        assert len(fake.done) < len(good.done), (step, call)


FOREIGN = {
    ROOT: directory(uid=UID),
    f"{ROOT}/record.json": Node(content=record(uid=2002), uid=UID),
    f"{ROOT}/ns": directory(uid=UID),
    f"{ROOT}/ns/user": namespace(991, parent="/init"),
    f"{ROOT}/ns/ipc": namespace(992),
    f"{ROOT}/ns/uts": namespace(993),
    f"{ROOT}/pod": Node(mode=stat.S_IFLNK | 0o777, uid=UID),
    f"{ROOT}/pod/containers.json": Node(content=hint(pod="other"), uid=2002),
    PROC: directory(uid=2002),
    f"{PROC}/stat": Node(content=stat_line(start=1)),
    f"{PROC}/status": Node(content=status(bounding="ffffffffffffffff", privileges=0)),
    f"{PROC}/cgroup": Node(content=b"3:memory:/slurm_c1/uid_2002/job_13/step_batch\n"),
    f"{PROC}/ns/user": namespace(994, parent="/init"),
    f"{PROC}/ns/pid": namespace(995, owner="/init"),
    f"{PROC}/ns/mnt": namespace(996, owner="/init"),
}
"""What another user, another process of the same number, or a forger would have at these paths."""


@pytest.mark.parametrize("path", FOREIGN)
def test_what_is_swapped_at_any_moment_is_not_joined(path: str) -> None:
    good = rehearsed()
    genuine = {node.inode for node in good.joined}
    for step in range(len(good.calls)):
        fake = running_pod()
        fake.nodes["/init"] = namespace(1)

        def swap(fake: FakeOS = fake) -> int:
            fake.nodes[path] = FOREIGN[path]
            return 0

        fake.events[step] = swap
        code, why = enter(fake)
        assert {node.inode for node in fake.joined} <= genuine, (step, good.calls[step])
        assert code == 0 or why
        if code < 0:
            assert len(fake.done) < len(good.done)


def test_all_of_a_process_swapped_for_its_successor_is_noticed() -> None:
    """Its pid is given to another, at any moment: the pidfd says that the first has gone."""
    good = rehearsed()
    for step in range(len(good.calls)):
        fake = running_pod()
        fake.nodes["/init"] = namespace(1)

        def succeed(fake: FakeOS = fake) -> int:
            fake.living = False
            fake.nodes |= {p: node for p, node in FOREIGN.items() if p.startswith(PROC)}
            return 0

        fake.events[step] = succeed
        code, _ = enter(fake)
        asked = good.calls.index(("alive", f"/proc/{PID}"))
        assert (code == 0) == (step > asked), (step, good.calls[step])
        assert 994 not in {node.inode for node in fake.joined}


@pytest.mark.parametrize("uid", [0, 2002, 65534, 2**31 - 1])
def test_no_other_uid_passes(uid: int) -> None:
    fake = running_pod()
    fake.uid = uid
    assert enter(fake)[0] == -errno.EPERM
    assert fake.done == []


def test_a_link_in_the_place_of_anything_is_not_followed() -> None:
    for path in (p for p in running_pod().nodes if p.startswith(ROOT)):
        fake = running_pod()
        fake.nodes[path] = Node(mode=stat.S_IFLNK | 0o777, uid=UID)
        code, why = enter(fake)
        if path.endswith("main.env"):
            continue
        assert code < 0, path
        assert why, path
        assert fake.done == [], path


def test_the_boot_and_not_the_time_says_whether_a_sandbox_is_of_today() -> None:
    for text in (b"", b"\n", BOOT.encode()[:-1], BOOT.encode() + b"x", os.urandom(36)):
        fake = running_pod()
        fake.nodes["/proc/sys/kernel/random/boot_id"].content = text
        assert enter(fake)[0] == -errno.ESTALE
