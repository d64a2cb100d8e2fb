"""The anchor for real: namespaces without privilege, and one death that ends all of it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slurmlet.supervisor.anchor import (
    Anchor,
    container_init,
    mounts_below,
    pid_in_namespaces,
    runs,
    start_anchor,
)
from slurmlet.supervisor.process import ProcessError, open_null, spawn

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def namespaces_work() -> bool:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "true"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    return done.returncode == 0


pytestmark = pytest.mark.skipif(
    not namespaces_work(), reason="this machine allows no user namespaces"
)


@pytest.fixture
async def anchor() -> AsyncIterator[Anchor]:
    made = await start_anchor(ENVIRONMENT)
    yield made
    await made.stop()


async def test_it_is_root_inside_and_nobody_special_outside(anchor: Anchor) -> None:
    done = await anchor.run(["sh", "-c", "id -u; echo $$; cat /proc/self/oom_score_adj"])
    uid, pid, score = done.stdout.split()
    assert (uid, score) == (b"0", b"500")
    assert int(pid) < 100
    assert anchor.ids >= 1
    assert anchor.variant.startswith(f"{os.getuid()}_")


async def test_mounts_are_the_pods_alone(anchor: Anchor, tmp_path: Path) -> None:
    await anchor.mount("tmpfs", str(tmp_path), options="mode=0700")
    (anchor.path(str(tmp_path)) / "secret").write_text("x")
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240
    done = await anchor.run(["cat", f"{tmp_path}/secret"])
    assert done.stdout == b"x"


async def test_mounts_below_a_path_go_the_deepest_first(anchor: Anchor, tmp_path: Path) -> None:
    for name in ("a b", "a b/c", "a", "ab"):
        (anchor.path(str(tmp_path)) / name).mkdir()
        await anchor.mount("tmpfs", f"{tmp_path}/{name}", options="mode=0700")
    await anchor.unmount_below(f"{tmp_path}/a b")
    await anchor.unmount_below(f"{tmp_path}/none")
    mounts = Path(f"/proc/{anchor.pid}/mountinfo").read_text()  # noqa: ASYNC240
    left = [f"{tmp_path}/{name}" for name in ("a", "a b", "ab")]
    assert sorted(mounts_below(str(tmp_path), mounts=mounts)) == left
    await anchor.unmount_below(str(tmp_path))
    await anchor.run(["rm", "-r", "--one-file-system", "--", *left])


async def test_a_failing_helper_says_why(anchor: Anchor) -> None:
    with pytest.raises(ProcessError, match=r"mount: .*nowhere"):
        await anchor.mount("tmpfs", "/nowhere", options="mode=0700")


async def test_the_first_process_of_a_container_is_found(anchor: Anchor) -> None:
    read, write = os.pipe()
    with open_null() as null:
        engine = spawn(
            anchor.enter(["unshare", "--pid", "--fork", "sh", "-c", "echo $$; exec sleep 60"]),
            environment=ENVIRONMENT,
            stdin=null,
            stdout=write,
            stderr=null,
        )
    os.close(write)
    assert os.read(read, 100) == b"1\n"
    os.close(read)
    init = container_init(engine.pid, anchor=anchor.pid)
    assert init is not None
    assert pid_in_namespaces(init)[-1] == 1
    assert len(pid_in_namespaces(init)) == len(pid_in_namespaces(anchor.pid)) + 1
    os.kill(init, 9)
    assert await engine.wait() != 0


async def test_all_of_it_dies_with_the_anchor() -> None:
    anchor = await start_anchor(ENVIRONMENT)
    with open_null() as null:
        process = spawn(
            anchor.enter(["sh", "-c", "setsid sleep 60 & wait"]),
            environment=ENVIRONMENT,
            stdin=null,
            stdout=null,
            stderr=null,
        )
    await anchor.stop()
    async with asyncio.timeout(10):
        assert await process.wait() != 0


async def test_the_anchor_dies_with_its_supervisor() -> None:
    script = (
        "import asyncio, os\n"
        "from slurmlet.supervisor.anchor import start_anchor\n"
        f"anchor = asyncio.run(start_anchor({ENVIRONMENT!r}))\n"
        "print(anchor.pid, flush=True)\n"
        "input()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    with process.stdin, process.stdout:
        pidfd = os.pidfd_open(int(process.stdout.readline()))
        process.stdin.write(b"\n")
    process.wait()
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, gone.set)
    async with asyncio.timeout(10):
        await gone.wait()
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)


def test_which_program_a_process_is() -> None:
    name = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()
    assert runs(os.getpid(), name)
    assert not runs(os.getpid(), name[:-1])
    assert not runs(2**22, name)
