"""`lab down` leaves nothing behind, whatever happened before; two labs do not meet."""

import os
import random
import secrets
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e import nodes, pods, traces
from tests.e2e.conftest import ROOT, Lab, lab_command

from slurmlab.names import RUN_ROOT

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab boots nodes: run as root"),
]

UP_SECONDS = 900
MOMENTS = int(os.environ.get("ROUNDS", "3"))


@dataclass(slots=True)
class Host:
    """The host before the test, and the test's own labs."""

    names: tuple[str, ...]
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    before: traces.Traces = field(default_factory=lambda: traces.Traces(found={}))

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """Start `up` of a lab in the background."""
        return subprocess.Popen(
            [ROOT / "lab", "up", "--no-rollout", "--name", name],
            env={**os.environ, traces.MARK: self.mark},
            stdin=subprocess.DEVNULL,
        )

    def now(self) -> dict[str, str]:
        """What is on the host now and was not before."""
        return traces.look(own=self.names, mark=self.mark) - self.before

    def left(self) -> dict[str, str]:
        """What stays on the host and was not there before."""
        return traces.wait_until_gone(self.before, own=self.names, mark=self.mark)


@pytest.fixture
def host() -> Iterator[Host]:
    """A host with all images built, so that `up` only boots; the test's labs go at the end."""
    built = lab_command("image", "--no-rollout", timeout=UP_SECONDS)
    assert built.returncode == 0, built.stdout
    names = (f"t{secrets.token_hex(3)}a", f"t{secrets.token_hex(3)}b")
    host = Host(names=names)
    host.before = traces.look(own=names, mark=host.mark)
    yield host
    for name in names:
        lab_command("down", "--name", name, timeout=120)


def down(name: str) -> None:
    done = lab_command("down", "--name", name, timeout=120)
    assert done.returncode == 0, done.stdout


def kinds(found: Iterable[str]) -> set[str]:
    return {trace.split()[0] for trace in found}


@pytest.mark.claim("F10")
@pytest.mark.timeout(300)
def test_down_leaves_nothing_of_a_lab_that_was_used(host: Host) -> None:
    name = host.names[0]
    assert host.start(name).wait(timeout=UP_SECONDS) == 0
    lab = Lab(name=name)
    lab.run("ctl", ["timeout", "30", "srun", "-N2", "hostname"], user="alice")
    lab.run("ctl", ["timeout", "30", "sbatch", "--wrap", "sleep 600"], user="bob")
    assert kinds(host.now()) == {"mount", "cgroup", "namespace", "process", "file"}, (
        "the test sees what a lab is made of; interfaces are in its own namespaces"
    )
    down(name)
    assert host.left() == {}
    down(name)  # also when there is nothing to remove


@pytest.mark.claim("F10")
@pytest.mark.timeout(120 + 120 * MOMENTS)
def test_down_leaves_nothing_of_a_killed_up(host: Host) -> None:
    name = host.names[0]
    began = time.monotonic()
    assert host.start(name).wait(timeout=UP_SECONDS) == 0
    whole = time.monotonic() - began
    down(name)
    seed = secrets.randbits(32)
    print(f"seed {seed}, up takes {whole:.1f} s")
    chance = random.Random(seed)
    for _ in range(MOMENTS):
        moment = chance.uniform(0, whole)
        up = host.start(name)
        time.sleep(moment)  # the moment is the input of this test
        up.send_signal(signal.SIGKILL)
        up.wait(timeout=10)
        print(f"killed after {moment:.2f} s, found then: {sorted(kinds(host.now()))}")
        down(name)
        left = host.left()
        assert left == {}, f"seed {seed}, killed after {moment:.2f} s"


@pytest.mark.timeout(300)
def test_up_after_a_killed_up_gives_a_whole_lab(host: Host) -> None:
    name = host.names[0]
    up = host.start(name)
    while not (RUN_ROOT / name / "nodes").exists():
        assert up.poll() is None, "up ended before it made a node"
        time.sleep(0.01)  # the kill shall come in the middle, and nothing announces that
    up.send_signal(signal.SIGKILL)
    up.wait(timeout=10)
    assert lab_command("status", "--name", name, timeout=60).returncode != 0
    assert host.start(name).wait(timeout=UP_SECONDS) == 0
    Lab(name=name).run("c1", ["timeout", "30", "srun", "true"], user="alice")
    down(name)
    assert host.left() == {}


@pytest.mark.claim("F11")
@pytest.mark.timeout(300)
def test_two_labs_at_once(host: Host) -> None:
    one, two = host.names
    ups = [host.start(name) for name in host.names]
    assert [up.wait(timeout=UP_SECONDS) for up in ups] == [0, 0]
    for name in host.names:
        # Both have a node c1 at the same address and a Slurm group of the same name.
        script = "cat /proc/self/cgroup; sleep 2"
        argv = ["timeout", "30", "srun", "-w", "c1", "sh", "-c", script]
        shown = Lab(name=name).run("ctl", argv, user="alice").stdout
        assert f"/slurmlet-lab/{name}/c1/slurm_c1/" in shown
        Path(f"{RUN_ROOT}/{name}/home/alice/mine").write_text(name)
        assert Lab(name=name).run("c2", ["cat", "mine"], user="alice").stdout == name
    again = lab_command("up", "--no-rollout", "--name", two, timeout=60)
    assert again.returncode == 0
    assert "booted after" not in again.stdout, "up of a running lab does nothing"
    down(one)
    Lab(name=two).run("ctl", ["timeout", "30", "srun", "-N2", "true"], user="bob")
    verified = lab_command("verify", "--name", two, timeout=120)
    assert verified.returncode == 0, verified.stdout
    down(two)
    assert host.left() == {}


@pytest.mark.timeout(300)
def test_a_node_keeps_its_files_over_a_reboot(host: Host) -> None:
    name = host.names[0]
    assert host.start(name).wait(timeout=UP_SECONDS) == 0
    lab = Lab(name=name)
    lab.run("c1", ["sh", "-c", "echo kept >/etc/mine"])
    boot = lab.run("c1", ["cat", "/proc/1/stat"]).stdout.split()[21]
    nodes.said(lab, "c1", ["systemctl", "reboot"])
    pods.until(
        lambda: nodes.said(lab, "c1", ["cut", "-d", " ", "-f22", "/proc/1/stat"]).strip(),
        lambda now: now not in ("", boot),
        seconds=90,
        what="another boot",
    )
    assert lab.run("c1", ["cat", "/etc/mine"]).stdout == "kept\n"
    argv = ["timeout", "60", "srun", "-w", "c1", "hostname"]
    assert lab.run("ctl", argv, user="alice", timeout=90).stdout == "c1\n"
    down(name)
    assert host.left() == {}
