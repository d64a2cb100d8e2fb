"""What a user plants in a job, a pod, or a tracer gives no power over the node."""

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab

NAME = "hostile"
POD = f"--k8s-pod=alice/{NAME}"
CLIENTS = Path(__file__).parent / "clients"
ENTER = "/opt/slurmlet/current/bin/slurmlet-enter"
MARKS = "/var/tmp/slurmlet-trap"
MARK = 86393
"""Seconds that nobody else sleeps: how the test knows its process on the node."""
FAKE_PROC = (
    "echo from the pod >/marker; mount -t tmpfs none /proc; mkdir -p /proc/self /proc/1/ns;"
    " : >/proc/self/uid_map; : >/proc/self/setgroups; : >/proc/self/gid_map;"
    " ln -s / /proc/1/root; while :; do sleep 1; done"
)
"""What a container with CAP_SYS_ADMIN in its user namespace can do to its own /proc."""


@pytest.fixture(scope="module")
def pod(lab: Lab) -> Iterator[dict[str, Any]]:
    """A pod on c1 whose /proc is made up."""
    pods.delete(lab, NAME)
    made = pods.manifest(
        NAME,
        *("sh", "-c", FAKE_PROC),
        annotations={"slurmlet.io/flags": "--exclude=c2"},
        container={"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
    )
    pods.create(lab, made)
    lab.kubectl("alice", "wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=100s")
    yield pods.get(lab, NAME)
    pods.delete(lab, NAME)


def srun(lab: Lab, *words: str, user: str = "alice") -> tuple[int, str, str]:
    done = lab.run("ctl", ["timeout", "60", "srun", *words], user=user, check=False, timeout=90)
    return done.returncode, done.stdout, done.stderr


def trapped(lab: Lab, script: str, directory: str) -> str:
    """Run a batch job of alice on c1 with every variable set that could lead a program astray."""
    planted = {
        "LD_PRELOAD": f"{directory}/trap.so",
        "LD_AUDIT": f"{directory}/trap.so",
        "LD_LIBRARY_PATH": directory,
        "GLIBC_TUNABLES": "glibc.malloc.perturb=85",
        "PYTHONPATH": directory,
        "PYTHONSTARTUP": f"{directory}/trap.py",
        "PYTHONINSPECT": "1",
        "BASH_ENV": f"{directory}/trap.sh",
        "ENV": f"{directory}/trap.sh",
    }
    # The control environment of prolog and epilog, which sbatch fills from SPANK_*.
    planted |= {f"SPANK_{name}": value for name, value in planted.items()}
    exported = ",".join(f"{name}={value}" for name, value in planted.items())
    argv = [
        *("env", *(f"{n}={v}" for n, v in planted.items() if n.startswith("SPANK_"))),
        *("timeout", "100", "sbatch", "--parsable", "--wait", "-w", "c1", "-o", "trap.out"),
        *("--k8s-sandbox=host", f"--export=ALL,{exported}"),
    ]
    done = lab.run("ctl", argv, user="alice", input=script, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.claim("H10")
def test_no_root_process_takes_what_a_job_plants(
    lab: Lab, pod: dict[str, Any], tmp_path: Path
) -> None:
    library = tmp_path / "trap.so"
    build = ["cc", "-shared", "-fPIC", "-o", str(library), str(CLIENTS / "trap.c")]
    subprocess.run(build, check=True, timeout=60)
    directory = "/home/alice/trap"
    script = (
        f"rm -rf {directory}; mkdir {directory} && cd {directory} && base64 -d >trap.so &&"
        f' printf \'import tempfile\\ntempfile.mkstemp(prefix="python.", dir="{MARKS}")\\n\''
        f" >trap.py && cp trap.py sitecustomize.py && echo 'mktemp {MARKS}/bash.XXXXXX' >trap.sh"
    )
    encoded = base64.b64encode(library.read_bytes()).decode()
    lab.run("ctl", ["sh", "-c", script], user="alice", input=encoded)
    lab.run("c1", ["sh", "-c", f"rm -rf {MARKS}; mkdir -m 1777 {MARKS}"])
    try:
        batch = (
            "#!/bin/bash\nbash -c true; python3 -c pass </dev/null; srun true\n"
            f"srun {POD} true && echo entered\n"
        )
        job = trapped(lab, batch, directory)
        pods.until(
            lambda: pods.squeue(lab, job),
            lambda state: state in ("", "COMPLETED"),
            seconds=30,
            what=f"the epilog of job {job}",
        )
        record = lab.run("ctl", ["cat", "/home/alice/trap.out"]).stdout
        assert "entered" in record
        listed = lab.run("c1", ["find", MARKS, "-type", "f", "-printf", "%u %f\n"]).stdout
    finally:
        lab.run("c1", ["rm", "-rf", MARKS])
    marks = [line.split() for line in listed.splitlines()]
    # All traps work, and all who stepped into one were alice.
    assert {name.partition(".")[0] for _, name in marks} == {"preload", "python", "bash"}
    assert {user for user, _ in marks} == {"alice"}


@pytest.mark.claim("H11")
def test_the_way_in_has_no_power_to_give_to_a_tracer(lab: Lab, pod: dict[str, Any]) -> None:
    """Whatever a tracer makes slurmlet-enter believe, it is its own user's program."""
    mode = lab.run("c1", ["sh", "-c", f"stat -Lc %a {ENTER}; getcap {ENTER}"]).stdout
    assert mode == "755\n"
    job = pods.job_id(pod)
    quiet = ["strace", "-f", "-o", "/dev/null"]
    # Bob, who makes it believe that he is alice and that it has joined.
    lies = ["-e", "inject=getuid:retval=2001", "-e", "inject=setns:retval=0"]
    words = [*quiet, *lies, ENTER, f"--job={job}", f"--pod=alice/{NAME}", "--", "id"]
    code, out, err = srun(lab, "-w", "c1", *words, user="bob")
    assert code != 0
    assert out == ""
    assert "ermission denied" in err
    # Alice, who keeps it from giving up capabilities, has those of her own user namespace.
    lies = ["-e", "inject=prctl:retval=0", "-e", "inject=capset:retval=0"]
    mine = [ENTER, f"--job={job}", f"--pod=alice/{NAME}", "--ns=-mnt,-pid", "--"]
    power = (
        "id -u; cat /etc/shadow; mknod /dev/shm/x b 8 0; touch /run/slurmlet/x;"
        " mount -t tmpfs x /mnt"
    )
    words = ["--overlap", f"--jobid={job}", *quiet, *lies, *mine, "sh", "-c", power]
    code, out, err = srun(lab, *words)
    assert code != 0
    assert out == "0\n"
    assert err.count("ermission denied") + err.count("not permitted") >= 4


@pytest.mark.claim("H11")
def test_bob_cannot_trace_a_task_that_joins(lab: Lab, pod: dict[str, Any]) -> None:
    command = f"^sleep {MARK}$"
    begin = f"timeout 60 srun {POD} sleep {MARK} >/dev/null 2>&1 </dev/null &"
    lab.run("ctl", ["sh", "-c", begin], user="alice")
    found = pods.until(
        lambda: lab.run("c1", ["pgrep", "-f", command], check=False).stdout,
        lambda out: out.strip().isdecimal(),
        seconds=30,
        what="the step",
    )
    trace = f"p=$(pgrep -u alice -f '^{ENTER} --job.*--pod=alice.{NAME}'); timeout 10 strace -p $p"
    code, _, err = srun(lab, "-w", "c1", "sh", "-c", trace, user="bob")
    lab.run("c1", ["kill", found.strip()])
    assert code != 0
    assert "attach: ptrace(PTRACE_SEIZE" in err
    assert "Operation not permitted" in err


@pytest.mark.claim("H12")
def test_a_made_up_proc_leads_no_step_astray(lab: Lab, pod: dict[str, Any]) -> None:
    code, out, err = srun(lab, POD, "sh", "-c", "hostname; cat /marker; kill -0 1 && echo pod")
    assert (code, out) == (0, f"{NAME}\nfrom the pod\npod\n"), err
    code, out, err = srun(lab, POD, "--k8s-pod-ns=-user", "id")
    assert (code, out) == (125, "")
    assert "cannot keep your user id in the pod" in err
