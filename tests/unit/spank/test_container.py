"""From a hint to a process that is surely the one meant, and into its namespaces."""

import errno
import stat
from typing import Any

import pytest

from slurmlet.spank._core import ffi, lib

from .fakeos import JOB, JOBS, FakeOS, Node, message, namespace, target_of, text_of
from .world import PID, PROC, ROOT, START, USER, hint, running_pod, stat_line, status

LEFT_OUT = {"net": 8, "ipc": 2, "uts": 4, "pid": 16, "mnt": 32}


def enter(
    fake: FakeOS, *, pod: str = "alice/web", left_out: int = 0, swap: Any = None
) -> tuple[int, str]:
    """Open and join; `swap` is called in between, as a racing user would act."""
    ops, why = fake.ops(), message()
    sandbox = ffi.new("struct slurmlet_sandbox *")
    container = ffi.new("struct slurmlet_container *")
    lib.slurmlet_sandbox_init(sandbox)
    lib.slurmlet_container_init(container)
    code = lib.slurmlet_sandbox_open(ops, JOBS.encode(), JOB, sandbox, why)
    if code == 0:
        code = lib.slurmlet_container_open(ops, sandbox, target_of(pod), container, why)
    if code == 0:
        if swap:
            swap()
        code = lib.slurmlet_join_container(ops, sandbox, container, left_out, why)
    lib.slurmlet_container_close(ops, container)
    lib.slurmlet_sandbox_close(ops, sandbox)
    assert not fake.open_fds, "descriptors leak"
    return code, text_of(why)


def joined(fake: FakeOS) -> list[str]:
    return [step[1] for step in fake.done if step[0] == "join"]


def test_all_is_joined_user_first_and_mounts_last() -> None:
    fake = running_pod()
    assert enter(fake)[0] == 0
    assert joined(fake) == ["user", "ipc", "uts", "pid", "mnt"]
    assert fake.done[-1] == ("root", f"{PROC}/root")


@pytest.mark.parametrize("kind", ["ipc", "uts", "pid", "mnt"])
def test_what_is_left_out_is_not_joined(kind: str) -> None:
    fake = running_pod()
    assert enter(fake, left_out=LEFT_OUT[kind])[0] == 0
    assert joined(fake) == [k for k in ("user", "ipc", "uts", "pid", "mnt") if k != kind]
    assert (("root", f"{PROC}/root") in fake.done) == (kind != "mnt")


def test_a_nested_user_namespace_is_joined_after_what_the_sandbox_owns() -> None:
    fake = running_pod()
    fake.nodes[f"{PROC}/ns/user"] = namespace(301, parent=USER)
    fake.nodes[f"{PROC}/ns/mnt"] = namespace(202, owner=f"{PROC}/ns/user")
    assert enter(fake)[0] == 0
    assert joined(fake) == ["user", "ipc", "uts", "pid", "user", "mnt"]


@pytest.mark.parametrize("kind", ["user", "pid", "mnt"])
def test_namespaces_of_elsewhere_are_refused(kind: str) -> None:
    fake = running_pod()
    fake.nodes["/foreign"] = namespace(900, parent="/init")
    fake.nodes["/init"] = namespace(1)
    fake.nodes[f"{PROC}/ns/{kind}"] = namespace(901, owner="/foreign", parent="/init")
    code, why = enter(fake)
    assert code == -errno.EPERM
    assert why.startswith(f"the container's {kind} namespace does not belong to the sandbox")
    assert joined(fake) == ["user"]


def test_an_endless_line_of_parents_ends() -> None:
    fake = running_pod()
    fake.nodes["/loop"] = namespace(900, parent="/loop")
    fake.nodes[f"{PROC}/ns/user"] = namespace(901, parent="/loop")
    assert enter(fake)[0] == -errno.EPERM


def test_a_recycled_pid_is_refused() -> None:
    fake = running_pod()
    fake.nodes[f"{PROC}/stat"].content = stat_line(start=START + 1)
    assert enter(fake) == (-errno.ESRCH, "the container has ended")


def test_a_process_that_ends_meanwhile_is_refused_before_anything_but_user_is_joined() -> None:
    fake = running_pod()

    def end() -> None:
        fake.living = False

    assert enter(fake, swap=end) == (-errno.ESRCH, "the container has ended")
    assert joined(fake) == ["user"]


def test_a_process_of_another_job_is_refused() -> None:
    fake = running_pod()
    fake.nodes[f"{PROC}/cgroup"].content = b"3:memory:/slurm_c1/uid_2001/job_122/step_batch\n"
    code, why = enter(fake)
    assert code == -errno.EPERM
    assert why == f"process {PID}, which the pod names as its container, does not belong to job 12"


def test_without_slurm_cgroups_the_other_checks_do() -> None:
    fake = running_pod()
    fake.nodes[f"{PROC}/cgroup"].content = b"0::/user.slice\n"
    assert enter(fake)[0] == 0


@pytest.mark.parametrize(
    "node",
    [
        Node(mode=stat.S_IFIFO | 0o600, uid=2001),
        Node(mode=stat.S_IFLNK | 0o777, uid=2001),
        Node(content=hint(), uid=2002),
        Node(content=b"", size=2**20 + 1, uid=2001),
        Node(content=b" " * (2**20 + 1), size=0, uid=2001),
    ],
    ids=["fifo", "link", "foreign", "huge", "growing"],
)
@pytest.mark.parametrize("name", ["containers.json"])
def test_a_hint_that_is_no_plain_file_of_the_users_is_refused(node: Node, name: str) -> None:
    fake = running_pod()
    fake.nodes[f"{ROOT}/pod/{name}"] = node
    code, why = enter(fake)
    assert code < 0
    assert why.startswith("the pod's containers.json: ")


@pytest.mark.parametrize(
    ("pod", "changes", "message"),
    [
        ("alice/web:nope", {}, "the pod has no running container nope"),
        ("alice/other", {}, "this job runs another pod"),
        ("bob/web", {}, "this job runs another pod"),
        ("alice/web", {"default": None}, "no container of the pod runs"),
        ("alice/web", {"version": 9}, "the pod's containers.json is not of version 1"),
        ("alice/web", {"containers": []}, "the pod's containers.json lists no containers"),
        *(
            (
                "alice/web",
                {
                    "containers": {
                        "main": {
                            "pid": PID,
                            "start": 1,
                            "directory": "/",
                            "environment": "e",
                            **broken,
                        }
                    }
                },
                "the pod's containers.json says nonsense of main",
            )
            for broken in (
                {"pid": 0},
                {"pid": -1},
                {"pid": 2**31},
                {"pid": "1"},
                {"start": -1},
                {"directory": "srv"},
                {"directory": "/" + "x" * 4096},
                {"environment": "../../record.json"},
                {"environment": ".."},
                {"environment": ""},
                {"environment": "a/b"},
            )
        ),
    ],
)
def test_a_hint_is_read_strictly(pod: str, changes: dict[str, Any], message: str) -> None:
    fake = running_pod()
    fake.nodes[f"{ROOT}/pod/containers.json"].content = hint(**changes)
    assert enter(fake, pod=pod)[1] == message


def test_no_hint_yet_is_told() -> None:
    fake = running_pod()
    del fake.nodes[f"{ROOT}/pod/containers.json"]
    assert enter(fake) == (-errno.ENOENT, "no container of the pod runs yet")


def test_privileges_are_the_kernels_word() -> None:
    fake = running_pod()
    fake.nodes[f"{PROC}/status"].content = status(bounding="0000000000000400", privileges=1)
    ops, why = fake.ops(), message()
    sandbox = ffi.new("struct slurmlet_sandbox *")
    container = ffi.new("struct slurmlet_container *")
    lib.slurmlet_sandbox_init(sandbox)
    assert lib.slurmlet_sandbox_open(ops, JOBS.encode(), JOB, sandbox, why) == 0
    assert lib.slurmlet_container_open(ops, sandbox, target_of("alice/web"), container, why) == 0, (
        text_of(why)
    )
    assert (container.capabilities, container.no_new_privileges) == (0x400, True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Name:\tsh\n",
        b"Name:\tx\nCapBnd:\tzz\nNoNewPrivs:\t0\nSeccomp:\t0\n",
        b"Name:\tx\nCapBnd:\t0\nNoNewPrivs:\t0\n",
        b"Name:\tx\nCapBnd:\t0\nNoNewPrivs:\tx\nSeccomp:\t0\n",
    ],
)
def test_a_kernel_that_tells_no_privileges_is_refused(content: bytes) -> None:
    fake = running_pod()
    fake.nodes[f"{PROC}/status"].content = content
    assert enter(fake)[1] == "/proc tells nothing of the container's privileges"


@pytest.mark.parametrize(
    ("theirs", "ours", "refused"),
    [
        (0, 0, False),
        (1, 0, True),
        (1, 1, False),
        (2, 1, True),
        (None, 0, True),
        (None, None, False),
    ],
)
def test_a_filter_that_cannot_be_put_on_a_step_keeps_it_out(
    theirs: int | None, ours: int | None, refused: bool
) -> None:
    fake = running_pod()
    fake.nodes[f"{PROC}/status"].content = status(filters=theirs)
    fake.nodes["/proc/self/status"].content = status(filters=ours)
    code, why = enter(fake)
    assert code == (-errno.EPERM if refused else 0)
    assert refused == why.startswith("the container has a seccomp filter")
    assert (joined(fake) == []) == refused
    # The node's tools are under no rule of the container's.
    assert enter(fake, left_out=LEFT_OUT["mnt"])[0] == 0


def test_a_kernel_that_tells_nothing_of_ourselves_is_refused() -> None:
    fake = running_pod()
    fake.nodes["/proc/self/status"].content = b"Name:\tx\n"
    assert enter(fake) == (-errno.EINVAL, "/proc/self/status tells nothing of seccomp")


def test_every_failure_of_the_system_is_refused_and_leaks_nothing() -> None:
    rehearsal = running_pod()
    assert enter(rehearsal)[0] == 0
    opened = running_pod()
    from .test_sandbox import open_sandbox

    assert open_sandbox(opened)[0] == 0
    for call in dict.fromkeys(rehearsal.calls[len(opened.calls) :]):
        if call in opened.calls:
            continue
        fake = running_pod()
        fake.faults[call] = errno.EACCES
        code, why = enter(fake)
        assert code < 0, call
        assert why, call
        assert len(joined(fake)) < 5 or call[0] == "root", call
