"""MPI, debuggers and terminals on a pod, from the node's side and from inside."""

import re
from collections.abc import Iterator
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
    left_out = [f"--k8s-pod-ns={namespaces}"] if namespaces else []
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
