"""Processes killed and nodes rebooted at random moments; what stays after the next job."""

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.e2e import nodes, pods
from tests.e2e.conftest import ROOT, Lab

pytestmark = pytest.mark.disruptive
NODE = "c2"
FLAGS = {"slurmlet.io/flags": "--exclude=c1"}
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
"""Another value each time; what failed is repeated with SEED=... in the environment."""

SECONDS_ALIVE = 4.0
"""The moments lie within this time of a target's start: containers start within it."""
TARGETS = {
    "slurmd": r"^\S*/slurmd( |$)",
    "slurmstepd": r"^slurmstepd: \[\d+\.",
    "supervisor": r"-m slurmlet\.supervisor",
    "anchor": r"slurmlet-enter --job=\d+ --anchor",
    "sandbox-make": r"-m slurmlet\.spank make",
    "sandbox-remove": r"-m slurmlet\.spank remove",
}
BRIEF = {"sandbox-make": 0.15, "sandbox-remove": 0.15}
"""Seconds that these live."""
REBOOT = "reboot"

# Waits for a process that matches, then a moment longer, then kills one or all of those there.
KILLER = r"""
import json, os, pathlib, random, re, signal, sys, time

job = json.load(sys.stdin)
own = {os.getpid(), os.getppid()}

def matching():
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) not in own:
            try:
                words = pathlib.Path("/proc", entry, "cmdline").read_bytes()
            except OSError:
                continue
            if re.search(job["pattern"], words.replace(b"\0", b" ").decode(errors="replace")):
                yield int(entry)

print("ready", flush=True)
deadline = time.monotonic() + job["patience"]
while not (found := list(matching())) and time.monotonic() < deadline:
    time.sleep(job["pause"])
time.sleep(job["delay"])
found = list(matching()) or found
for pid in found if job["all"] else found[:1]:
    try:
        os.kill(pid, signal.SIGKILL)
        print("killed", pid, flush=True)
    except ProcessLookupError:
        print("too late for", pid, flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is killed, how many seconds after it is there, and whether all that match."""

    target: str
    delay: float
    all: bool

    def __str__(self) -> str:
        return f"{self.target} after {self.delay:.3f} s{' (all)' if self.all else ''}, SEED={SEED}"


def fault_of(number: int) -> Fault:
    """The fault of a round; each target comes once before any comes again."""
    kinds = [*TARGETS, REBOOT]
    order = random.Random(f"{SEED}-{number // len(kinds)}").sample(kinds, len(kinds))
    rng = random.Random(f"{SEED}-{number}-moment")
    target = order[number % len(kinds)]
    return Fault(
        target=target,
        delay=rng.uniform(0, BRIEF.get(target, SECONDS_ALIVE)),
        all=rng.random() < 0.5,
    )


def start_killer(lab: Lab, fault: Fault) -> "subprocess.Popen[str]":
    killer = subprocess.Popen(
        [ROOT / "lab", "exec", NODE, "--name", lab.name, "--", "python3", "-I", "-c", KILLER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert killer.stdin is not None
    assert killer.stdout is not None
    orders = {
        "pattern": TARGETS[fault.target],
        "delay": fault.delay,
        "all": fault.all,
        "patience": 60,
        "pause": 0.003 if fault.target in BRIEF else 0.02,
    }
    killer.stdin.write(json.dumps(orders))
    killer.stdin.close()
    assert killer.stdout.readline() == "ready\n"
    return killer


def words_of(killer: "subprocess.Popen[str]") -> str:
    assert killer.stdout is not None
    with killer.stdout:
        assert killer.wait(timeout=100) == 0
        return killer.stdout.read().strip()


def bring_back(lab: Lab) -> None:
    """What an administrator does who sees that slurmd is away."""

    def is_up() -> bool:
        up = ["systemctl", "is-active", "--quiet", "slurmd"]
        start = ["systemctl", "restart", "slurmd"]
        return (
            lab.run(NODE, up, check=False).returncode == 0
            or lab.run(NODE, start, timeout=100, check=False).returncode == 0
        )

    # A node that boots has processes before systemd listens.
    pods.until(is_up, bool, seconds=60, what=f"slurmd on {NODE}")


def pod(name: str) -> dict[str, object]:
    # PID 1 has no default action for SIGTERM.
    script = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
    return pods.manifest(name, "sh", "-c", script, annotations=FLAGS)


@pytest.fixture(scope="module")
def baseline(lab: Lab) -> Iterator[nodes.Traces]:
    """The node after a pod that nothing happened to: tables and directories stay."""
    nodes.wait_idle(lab, NODE)
    pods.delete(lab, "quiet")
    pods.create(lab, pod("quiet"))
    pods.wait_for_phase(lab, "quiet", "Running")
    pods.delete(lab, "quiet")
    nodes.wait_idle(lab, NODE)
    yield nodes.look(lab, NODE)
    bring_back(lab)


def next_job(lab: Lab) -> None:
    lab.run("ctl", ["timeout", "60", "srun", "-w", NODE, "true"], user="bob", timeout=90)
    nodes.wait_idle(lab, NODE)


@pytest.mark.claim("S20")
@pytest.mark.timeout(420)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_fault_leaves_nothing_after_the_next_job(
    lab: Lab, baseline: nodes.Traces, number: int
) -> None:
    fault, name = fault_of(number), f"fault-{number}"
    started = time.monotonic()
    killer = None if fault.target == REBOOT else start_killer(lab, fault)
    pods.create(lab, pod(name))
    if fault.target == REBOOT:
        pods.until(lambda: pods.job_id(pods.get(lab, name)), bool, seconds=60, what="the pod's job")
        time.sleep(fault.delay)
        nodes.reboot(lab, NODE)
    elif fault.target == "sandbox-remove":
        pods.wait_for_phase(lab, name, "Running")
    elif killer is not None:
        killer.wait(timeout=100)
    bring_back(lab)
    pods.delete(lab, name)
    said = words_of(killer) if killer else "rebooted"
    assert said, f"{fault}: its target was never there"
    print(f"round {number}: {fault}: {said}", end="")
    nodes.wait_idle(lab, NODE)
    next_job(lab)
    # The address is the one thing that may stay, for a minute.
    left = pods.until(
        lambda: nodes.look(lab, NODE).beyond(baseline, without=frozenset({"lease"})),
        lambda found: not found,
        seconds=10,
        what=f"{fault}: nothing left on {NODE}",
    )
    assert left == []
    print(f" ({time.monotonic() - started:.0f} s)")


@pytest.mark.claim("S21")
@pytest.mark.timeout(200)
@pytest.mark.usefixtures("baseline")
def test_addresses_are_free_a_minute_later(lab: Lab) -> None:
    """The job of a pod that comes and goes as pods do frees what the faults left, at its end what
    its prolog had no time for."""
    leases = nodes.look(lab, NODE).found["lease"]
    if leases:
        time.sleep(61)
    name = "after"
    pods.create(lab, pod(name))
    pods.wait_for_phase(lab, name, "Running")
    pods.delete(lab, name)
    nodes.wait_idle(lab, NODE)
    # Its own, where pods have addresses, has just begun to rest.
    assert len(nodes.look(lab, NODE).found["lease"]) <= 1
