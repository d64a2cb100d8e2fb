"""MPI, debuggers and terminals on a pod, from the node's side and from inside."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab

NAME = "tools"
POD = f"--k8s-pod=alice/{NAME}"
TOOLBOX = "registry.lab:5000/toolbox:1.0"
CLIENTS = Path(__file__).parent / "clients"
MARK = 86398
"""Seconds that nobody else sleeps: how a debugger finds the pod's process on the node."""
ENTER = "/opt/slurmlet/current/bin/slurmlet-enter"


def srun(lab: Lab, *words: str, input: str | None = None) -> tuple[int, str, str]:  # noqa: A002
    """Exit status, output and messages of alice's srun on the login node."""
    argv = ["timeout", "60", "srun", *words]
    done = lab.run("ctl", argv, user="alice", check=False, timeout=90, input=input)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def pod(lab: Lab) -> Iterator[dict[str, Any]]:
    """A pod on c1 that has compilers, debuggers and MPI's libraries, and the two clients."""
    pods.delete(lab, NAME)
    made = pods.manifest(
        NAME,
        *("sleep", str(MARK)),
        annotations={"slurmlet.io/flags": "--exclude=c2"},
        container={
            "image": TOOLBOX,
            "resources": {"requests": {"cpu": "2", "memory": "256Mi"}},
        },
    )
    pods.create(lab, made)
    lab.kubectl("alice", "wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=100s")
    include = "-I/usr/lib/x86_64-linux-gnu/pmix2/include"
    for name, flags in (("pmi2", "-lpmi2"), ("pmix", f"{include} -lpmix")):
        build = f"cat >/{name}.c && gcc -o /{name} /{name}.c {flags}"
        source = (CLIENTS / f"{name}.c").read_text()
        code, _, err = srun(lab, POD, "sh", "-c", build, input=source)
        assert code == 0, err
    yield pods.get(lab, NAME)
    pods.delete(lab, NAME)


@pytest.mark.claim("J13")
@pytest.mark.parametrize(
    ("kind", "namespaces"), [("pmi2", ""), ("pmi2", "-user"), ("pmix", "-user,-net")]
)
def test_ranks_of_an_mpi_step_meet(
    lab: Lab, pod: dict[str, Any], kind: str, namespaces: str
) -> None:
    probe = ["timeout", "30", "srun", f"--mpi={kind}", "-n1", "true"]
    probed = lab.run("ctl", probe, user="alice", check=False)
    if "Invalid MPI type" in probed.stderr:
        pytest.skip(f"this Slurm has no mpi/{kind}")
    left_out = [f"--k8s-pod-ns={namespaces}"] if namespaces else []
    release = lab.run("ctl", ["srun", "--version"]).stdout
    if kind == "pmix" and "26.05" in release:
        pytest.skip("Debian builds Slurm 26.05 without mpi/pmix")
    code, out, err = srun(lab, f"--mpi={kind}", "-n2", POD, *left_out, f"/{kind}")
    assert code == 0, err
    assert sorted(out.splitlines()) == ["rank 0 of 2 heard one", "rank 1 of 2 heard zero"]
    assert err == ""


@pytest.mark.claim("J14")
def test_a_step_may_keep_its_own_user(lab: Lab, pod: dict[str, Any]) -> None:
    script = "id -u; id -g; hostname; grep CapEff /proc/self/status | cut -f2; chroot / true"
    code, out, err = srun(lab, POD, "--k8s-pod-ns=-user", "sh", "-c", script)
    assert code != 0
    assert out.splitlines() == ["2001", "2001", NAME, "0000000000000000"]
    assert "not permitted" in err
    code, _, err = srun(lab, POD, "--k8s-pod-ns=-user,-pid", "true")
    assert (code, "-user with -pid needs -mnt" in err) == (125, True)


@pytest.mark.claim("J15")
def test_a_debugger_of_the_nodes_looks_into_the_pod(lab: Lab, pod: dict[str, Any]) -> None:
    script = (
        f"p=$(pgrep -f '^sleep {MARK}');"
        " timeout 20 gdb -q -batch -ex bt -ex 'info proc' -p $p 2>&1;"
        " timeout -s INT 1 strace -f -p $p 2>&1; cat /etc/hostname"
    )
    code, out, err = srun(lab, POD, "--k8s-pod-ns=-mnt,-pid", "sh", "-c", script)
    assert code == 0, err
    # The pod's libraries, though the debugger is the node's.
    assert "from target:/lib/" in out
    assert f"cmdline = 'sleep {MARK}'" in out
    assert "clock_nanosleep" in out or "restart_syscall" in out
    assert out.splitlines()[-1] == "c1"


@pytest.mark.claim("J15")
def test_the_way_into_a_pod_can_be_traced(lab: Lab, pod: dict[str, Any]) -> None:
    """By its user, and the trace changes nothing of it."""
    job = pods.job_id(pod)
    enter = [ENTER, f"--job={job}", f"--pod=alice/{NAME}", "--", "hostname"]
    trace = "/tmp/slurmlet-trace"
    words = ["--overlap", f"--jobid={job}", "strace", "-f", "-e", "setns", "-o", trace, *enter]
    code, out, err = srun(lab, *words)
    assert (code, out) == (0, f"{NAME}\n"), err
    text = lab.run("c1", ["cat", trace]).stdout
    lab.run("c1", ["rm", "-f", trace])
    for flag in ("CLONE_NEWUSER", "CLONE_NEWIPC", "CLONE_NEWUTS", "CLONE_NEWPID", "CLONE_NEWNS"):
        assert re.search(rf"{flag}\)\s+= 0", text)


@pytest.mark.claim("J15")
def test_bob_can_debug_nothing_of_it(lab: Lab, pod: dict[str, Any]) -> None:
    script = f"p=$(pgrep -f '^sleep {MARK}'); timeout 10 strace -p $p; ls /proc/$p/root"
    argv = ["timeout", "60", "srun", "-w", "c1", "sh", "-c", script]
    done = lab.run("ctl", argv, user="bob", check=False)
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr
    assert "ermission denied" in done.stderr
    assert done.stdout == ""


def play(lab: Lab, session: Sequence[tuple[object, str]], *words: str) -> str:
    """What a terminal showed of alice's srun while a session was played on it."""
    program = (CLIENTS / "terminal.py").read_text()
    # A terminal that bash sends nothing but text.
    played = ["env", "TERM=dumb", "timeout", "--foreground", "90", "srun", *words]
    argv = ["python3", "-c", program, *played]
    done = lab.run(
        "ctl", argv, user="alice", input=json.dumps(session) + "\n", check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.claim("J16")
def test_job_control_works_in_a_shell_in_the_pod(lab: Lab, pod: dict[str, Any]) -> None:
    text = play(
        lab,
        [
            ("PS1='rea''dy> '\n", "ready> "),
            ("tty\n", r"/dev/pts/\d+\s+ready> "),
            ("sleep 1000; echo after=$?\n", "after=.*\n"),
            ("\x1a", r"Stopped.*\n[^$]*ready> "),
            ("jobs\n", r"Stopped\s+sleep 1000\s+ready> "),
            ("fg\n", r"sleep 1000\r\n"),
            ("\x03", "ready> "),
            ("jobs; echo end=$((1+1))\n", r"end=2\s+ready> "),
            ([33, 101], ""),
            # Slurm takes the size to the node beside what is typed, which may be there before it.
            ("until stty size | grep '33 101'; do sleep 0.1; done\n", r"33 101\s+ready> "),
            ("sleep 0.1 &\n", "ready> "),
            ("wait; ps -o stat= -C sleep; echo end=$((1+2))\n", r"end=3\s+ready> "),
            ("exit 9\n", "exit"),
        ],
        *("--pty", POD, "bash", "--norc", "-i"),
    )
    assert text.endswith("code 9\n")


@pytest.mark.claim("J16")
def test_a_terminal_that_goes_away_ends_the_step(lab: Lab, pod: dict[str, Any]) -> None:
    """As when the window is closed: srun dies, and with it what it ran."""
    program = (
        "import os, pty, signal\n"
        "child, terminal = pty.fork()\n"
        f"words = ['timeout', '--foreground', '60', 'srun', '--pty', '{POD}', 'sh', '-c',"
        f" 'echo up; sleep {MARK - 1}']\n"
        "if child == 0: os.execvp(words[0], words)\n"
        "seen = b''\n"
        "while b'up' not in seen: seen += os.read(terminal, 100)\n"
        "os.close(terminal)\n"
        "os.waitpid(child, 0)\n"
    )
    lab.run("ctl", ["python3", "-c", program], user="alice", timeout=90)
    no_process(lab, f"^sleep {MARK - 1}$")


def no_process(lab: Lab, pattern: str) -> None:
    pods.until(
        lambda: lab.run("c1", ["pgrep", "-fc", pattern], check=False).stdout.strip(),
        lambda count: count == "0",
        seconds=30,
        what=f"the end of {pattern} on c1",
    )


@pytest.mark.claim("J16")
@pytest.mark.parametrize("tasks", [1, 2])
def test_an_interrupted_srun_leaves_nothing_in_the_pod(
    lab: Lab, pod: dict[str, Any], tasks: int
) -> None:
    """Also if the tasks do not listen."""
    mark = MARK - 2
    inner = f"trap '' INT; echo up; sleep {mark}; sleep {mark}"
    text = play(
        lab,
        [
            ("", r"(up\s+)" * tasks),
            ("\x03", r"one more within 1 sec to abort"),
            ("\x03", "forcing job termination|job abort in progress"),
        ],
        *(f"-n{tasks}", POD, "sh", "-c", inner),
    )
    assert "code 0" not in text
    no_process(lab, f"^sleep {mark}$")
    # The pod has not noticed.
    assert srun(lab, POD, "hostname")[1] == f"{NAME}\n"


@pytest.mark.claim("J17")
def test_the_task_prolog_runs_on_the_node_before_the_join(lab: Lab, pod: dict[str, Any]) -> None:
    prolog = (
        "#!/bin/sh\n"
        'echo export FROM_PROLOG="$(cat /etc/hostname) $SLURM_PROCID"\n'
        "echo print said by the prolog\n"
        "echo unset GREETING\n"
    )
    lab.run("ctl", ["sh", "-c", "cat >~/prolog; chmod 755 ~/prolog"], user="alice", input=prolog)
    words = ["-n2", "--task-prolog=/home/alice/prolog", POD]
    code, out, err = srun(lab, *words, "sh", "-c", 'echo "$FROM_PROLOG in $(hostname)"')
    assert code == 0, err
    lines = sorted(out.splitlines())
    assert lines == [f"c1 {n} in {NAME}" for n in (0, 1)] + ["said by the prolog"] * 2
