"""Whoever wants no pod is not touched: what a plain srun starts, traced."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from tests.e2e import pods
from tests.e2e.conftest import ROOT, Lab

pytestmark = pytest.mark.disruptive
NODE = "c1"
LINE = "/etc/slurm/plugstack.conf.d/zz-slurmlet.conf"
STRACE = ("strace", "-f", "-q", "-e", "trace=execve", "-e", "signal=none", "-s", "400")
EXECUTION = re.compile(r'execve\("[^"]*", (\[.*?\]), 0x')
HELPER = "slurmlet.spank"
EXTERN = ["sleep", "100000000"]
"""What Slurm's extern step holds a job's container with, if the job lives long enough for it."""
RESTING = "/run/slurmlet/resting"


def executions(trace: str) -> list[list[str]]:
    """The words of every program that was started, or tried."""
    return [json.loads(found) for found in EXECUTION.findall(trace)]


@contextmanager
def traced_slurmd(lab: Lab) -> Iterator[list[list[str]]]:
    """What slurmd and its children start while this lasts; filled at its end."""
    out = "/run/trace"
    script = f"echo $$; exec {' '.join(STRACE)} -p $(pidof -s slurmd) -o {out}"
    started: list[list[str]] = []
    with subprocess.Popen(
        [ROOT / "lab", "exec", NODE, "--name", lab.name, "--", "sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as tracer:
        assert tracer.stdout is not None
        pid = tracer.stdout.readline().strip()
        try:
            pods.until(
                lambda: lab.run(
                    NODE, ["sh", "-c", "grep TracerPid /proc/$(pidof -s slurmd)/status"]
                ).stdout.split()[-1],
                lambda traced_by: traced_by == pid,
                seconds=20,
                what="strace on slurmd",
            )
            yield started
        finally:
            lab.run(NODE, ["kill", "-INT", pid], check=False)
            tracer.wait(timeout=20)
    started += executions(lab.run(NODE, ["cat", out]).stdout)


def srun(lab: Lab, *words: str, traced: bool = False) -> str:
    """srun's output; with `traced`, what srun starts on the login node."""
    prefix = STRACE if traced else ()
    argv = ["timeout", "60", *prefix, "srun", "-w", NODE, *words]
    done = lab.run("ctl", argv, user="alice", timeout=90)
    return done.stderr if traced else done.stdout


@pytest.fixture
def allocation(lab: Lab) -> Iterator[str]:
    argv = ["timeout", "60", "salloc", "--no-shell", "-n1", "-w", NODE]
    said = lab.run("ctl", argv, user="alice").stderr
    found = re.search(r"Granted job allocation (\d+)", said)
    assert found, said
    # With the first step all of the allocation's own processes are there.
    srun(lab, f"--jobid={found[1]}", "true")
    yield found[1]
    lab.run("ctl", ["timeout", "30", "scancel", found[1]], user="alice")


@contextmanager
def without_plugin(lab: Lab, nodes: Sequence[str]) -> Iterator[None]:
    """Slurm reads its list of plugins anew for each step."""
    for node in nodes:
        lab.run(node, ["mv", LINE, "/root/kept"])
    try:
        yield
    finally:
        for node in nodes:
            lab.run(node, ["mv", "/root/kept", LINE])


def step(lab: Lab, allocation: str) -> tuple[list[list[str]], list[list[str]]]:
    """What a plain step starts on the node and on the login node."""
    with traced_slurmd(lab) as on_node:
        own = executions(srun(lab, f"--jobid={allocation}", "true", traced=True))
    return on_node, own


@pytest.mark.claim("J8")
def test_a_plain_step_starts_the_same_with_and_without_the_plugin(
    lab: Lab, allocation: str
) -> None:
    with_plugin = step(lab, allocation)
    with without_plugin(lab, ["ctl", NODE]):
        assert step(lab, allocation) == with_plugin
    on_node, own = with_plugin
    assert [words[0].rpartition("/")[2] for words in on_node] == ["slurmstepd", "true"]
    assert own == [["srun", "-w", NODE, f"--jobid={allocation}", "true"]]


def started_by_job(lab: Lab, *options: str) -> list[list[str]]:
    """What slurmd and its children start for a job of one step, from prolog to epilog."""
    with traced_slurmd(lab) as started:
        job = srun(lab, *options, "printenv", "SLURM_JOB_ID").strip()
        pods.until(
            lambda: pods.squeue(lab, job),
            lambda state: state == "COMPLETED",
            seconds=30,
            what=f"the end of job {job}'s epilog",
        )
    return [[words[0].rpartition("/")[2], *words[1:]] for words in started]


@contextmanager
def nothing_resting(lab: Lab) -> Iterator[None]:
    """The first epilog a minute after a pod's end frees its address: as if no pod had ended."""
    lab.run(NODE, ["sh", "-c", f"mkdir /run/kept; mv {RESTING}/*.json /run/kept; true"])
    try:
        yield
    finally:
        lab.run(NODE, ["sh", "-c", f"mv /run/kept/*.json {RESTING}; rmdir /run/kept"])


@pytest.mark.claim("J8")
def test_a_plain_job_starts_no_helper_of_ours(lab: Lab) -> None:
    """Slurm starts itself, to ask plugins for their prolog and epilog; ours start nothing."""
    with nothing_resting(lab):
        plain = started_by_job(lab)
        asked = started_by_job(lab, "--k8s-sandbox=host")
    assert plain.count(["slurmstepd", "spank", "prolog"]) == 1
    assert plain.count(["slurmstepd", "spank", "epilog"]) == 1
    others = [words for words in plain if words[0] != "slurmstepd" and words != EXTERN]
    assert others == [["printenv", "SLURM_JOB_ID"]]
    # The trace would have shown it.
    assert [words[4] for words in asked if HELPER in words] == ["make", "remove"]
