"""Processes that are killed come back, and no object is lost."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurmlet.controlplane.certificates import Request
from slurmlet.controlplane.run import ControlPlane, local_config

REQUEST = Request(sans=("127.0.0.1",), users=("alice",))
OBJECTS = 30


class Reports:
    """The runner's lines; `expect` waits for one."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._arrived = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._arrived:
            self._lines.append(line)
            self._arrived.notify_all()

    def expect(self, text: str) -> None:
        with self._arrived:
            found = self._arrived.wait_for(
                lambda: any(text in line for line in self._lines), timeout=20
            )
        assert found, self._lines


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def plane(binaries: Path, tmp_path: Path, reports: Reports) -> Iterator[ControlPlane]:
    """A control plane of this test's own, with fsync, because it will be killed."""
    config = local_config(tmp_path / "plane", bin_dir=binaries, ports=(0, 0, 0, 0))
    with ControlPlane(config, REQUEST, report=reports) as started:
        yield started


def kubectl(plane: ControlPlane, *arguments: str, stdin: str = "") -> str:
    return subprocess.run(
        [plane.config.bin_dir / "kubectl", f"--kubeconfig={plane.admin_conf}", *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=True,
    ).stdout


def create_objects(plane: ControlPlane) -> None:
    documents = [
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: kept-{number}}}\n"
        for number in range(OBJECTS)
    ]
    kubectl(plane, "create", "-f", "-", stdin="---\n".join(documents))


def uids(plane: ControlPlane) -> dict[str, Any]:
    items = plane.probe.get_json("/api/v1/namespaces/default/configmaps")["items"]
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}


@pytest.mark.claim("F9")
def test_each_killed_process_comes_back_and_no_object_is_lost(
    plane: ControlPlane, reports: Reports
) -> None:
    create_objects(plane)
    before = uids(plane)
    assert len(before) == OBJECTS + 1  # kube-root-ca.crt
    for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
        killed = plane.pids[name]
        os.kill(killed, signal.SIGKILL)
        reports.expect(f"{name} was killed by SIGKILL: starting it again")
        plane.wait_ready(60)
        assert uids(plane) == before
    # The controllers work again: a new namespace gets its service account.
    kubectl(plane, "create", "namespace", "later")
    kubectl(plane, "-n", "later", "wait", "--for=create", "serviceaccount/default", "--timeout=25s")


def test_a_stop_and_a_start_lose_nothing_and_make_no_new_keys(
    plane: ControlPlane, reports: Reports
) -> None:
    create_objects(plane)
    before = uids(plane)
    files = {path: path.stat().st_mtime_ns for path in plane.config.pki_dir.rglob("*.*")}
    pids = list(plane.pids.values())
    plane.stop()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with ControlPlane(plane.config, REQUEST, report=reports) as again:
        assert uids(again) == before
        assert {path: path.stat().st_mtime_ns for path in files} == files


def start_command(directory: Path, *ports: int) -> subprocess.Popen[str]:
    names = ("--port", "--etcd-port", "--etcd-peer-port", "--controller-manager-port")
    flags = [f"{name}={port}" for name, port in zip(names, ports, strict=True)]
    command = [sys.executable, "-m", "slurmlet.controlplane", "run", "--dir", str(directory)]
    return subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True)


def close(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.close()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_command_survives_its_own_sigkill_and_ends_on_sigterm(
    binaries: Path, tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    ports = free_ports(4)
    first = start_command(tmp_path / "plane", *ports)
    try:
        assert first_line(first) == f"ready {tmp_path}/plane/pki/admin.conf"
        first.kill()
        first.wait(10)
        # Its children died with it: the same ports are free for the next one.
        second = start_command(tmp_path / "plane", *ports)
        try:
            assert first_line(second).startswith("ready ")
            third = subprocess.run(
                [sys.executable, "-m", "slurmlet.controlplane", "run", "--dir", tmp_path / "plane"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert third.returncode == 1
            assert f"already runs in {tmp_path}/plane (pid {second.pid})" in third.stderr
            assert third.stderr.count("\n") == 1
            assert second.poll() is None
        finally:
            second.terminate()
            assert second.wait(30) == 0
            close(second)
    finally:
        first.kill()
        first.wait(10)
        close(first)


def test_a_sigterm_during_the_start_leaves_nothing(
    binaries: Path, tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    ports = free_ports(4)
    starting = start_command(tmp_path / "plane", *ports)
    try:
        deadline = time.monotonic() + 30
        while not connects(ports[1]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        starting.terminate()
        assert starting.wait(30) == 130
        assert not any(map(connects, ports))
    finally:
        starting.kill()
        starting.wait(10)
        close(starting)


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
