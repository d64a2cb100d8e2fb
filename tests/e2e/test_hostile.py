"""bob against alice and against the node: each attempt fails with a message and drains nothing.

What test_enter.py (by name, job and variables, by paths on the node, a forged hint) and
test_network_host.py (forged sources, ports, interfaces) try is not repeated here.
"""

import json
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from tests.e2e import nodes, pods
from tests.e2e.conftest import Lab

NODE = "c1"
FLAGS = {"slurmlet.io/flags": "--exclude=c2"}
JOBS = "/run/slurmlet/jobs"
RELEASE = "/opt/slurmlet/current"
ENTER = f"{RELEASE}/bin/slurmlet-enter"
SUPERVISOR = f"{RELEASE}/bin/python -I -m slurmlet.supervisor"
VICTIM, OWN = "victim", "attacker"
POD = f"--k8s-pod=alice/{VICTIM}"


@dataclass(frozen=True, slots=True)
class Pair:
    """A pod of alice and one of bob on one node."""

    alice: Mapping[str, Any]
    bob: Mapping[str, Any]

    @property
    def job(self) -> str:
        return pods.job_id(self.alice)

    @property
    def uid(self) -> str:
        return str(self.alice["metadata"]["uid"])


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Iterator[Pair]:
    script = "trap 'exit 0' TERM; while :; do sleep 0.5; done"
    owners = {VICTIM: "alice", OWN: "bob"}
    for name, user in owners.items():
        pods.delete(lab, name, user=user)
    for name, user in owners.items():
        pods.create(lab, pods.manifest(name, "sh", "-c", script, annotations=FLAGS), user=user)
    for name, user in owners.items():
        ready = ("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=100s")
        lab.kubectl(user, *ready)
    yield Pair(pods.get(lab, VICTIM), pods.get(lab, OWN, user="bob"))
    for name, user in owners.items():
        pods.delete(lab, name, user=user)


def job_of(lab: Lab, user: str, script: str, *options: str, **variables: str) -> tuple[str, str]:
    """Output and messages of a job of one task on the node."""
    argv = [
        *("env", *(f"{name}={value}" for name, value in variables.items())),
        *("timeout", "60", "srun", "-w", NODE, *options, "sh", "-c", script),
    ]
    done = lab.run("ctl", argv, user=user, check=False, timeout=90)
    return done.stdout, done.stderr


def step(lab: Lab, *words: str) -> tuple[int, str, str]:
    """A step of alice's in her pod."""
    argv = ["timeout", "60", "srun", POD, *words]
    done = lab.run("ctl", argv, user="alice", check=False, timeout=90)
    return done.returncode, done.stdout, done.stderr


def unharmed(lab: Lab, pair: Pair) -> None:
    """The pod runs in its job, the agent has it, steps enter it, the node takes jobs."""
    now = pods.get(lab, VICTIM)
    assert (pods.phase(now), pods.job_id(now)) == ("Running", pair.job)
    assert step(lab, "hostname")[:2] == (0, f"{VICTIM}\n")
    assert nodes.usable(lab)


def first_process(lab: Lab, job: str) -> dict[str, int]:
    """The hint of the pod's container."""
    hint = json.loads(lab.run(NODE, ["cat", f"{JOBS}/{job}/pod/containers.json"]).stdout)
    container: dict[str, int] = hint["containers"]["main"]
    return container


def wait_for_process(lab: Lab, script: str) -> list[str]:
    """Number and start of a process on the node, which a script prints."""
    return pods.until(
        lambda: lab.run(NODE, ["sh", "-c", script], check=False).stdout.split(),
        bool,
        seconds=20,
        what="a process",
    )


@pytest.mark.claim("H20")
def test_a_hint_that_names_another_jobs_process_leads_nowhere(lab: Lab, pair: Pair) -> None:
    """bob's container, a process of alice's own in another job, her supervisor outside the pod."""
    hints = f"{JOBS}/{pair.job}/pod"
    bobs = first_process(lab, pods.job_id(pair.bob))
    find = (
        "for d in /proc/[0-9]*; do tr '\\0' ' ' <$d/cmdline 2>/dev/null | grep -q {pattern} &&"
        " grep -q job_{job}/ $d/cgroup && echo ${{d#/proc/}} $(cut -d' ' -f22 $d/stat); done"
    )
    lab.run("ctl", ["timeout", "30", "sbatch", "-Q", "-w", NODE, "-J", "plain", "--wrap",
                    "exec sleep 4321"], user="alice")  # fmt: skip
    plain = pods.until(
        lambda: lab.run("ctl", ["squeue", "-h", "-n", "plain", "-t", "R", "-o", "%i"]).stdout,
        bool, seconds=30, what="a plain job",
    ).strip()  # fmt: skip
    others = {"bob's": (bobs["pid"], bobs["start"])}
    for name, pattern, job in (
        ("plain", "'^sleep 4321'", plain),
        ("supervisor", "slurmlet.supervisor", pair.job),
    ):
        found = wait_for_process(lab, find.format(pattern=pattern, job=job))
        others[name] = (int(found[0]), int(found[1]))
    said = {}
    try:
        for name, (pid, start) in others.items():
            forge = (
                "import json; d = json.load(open('kept')); d['containers']['main'].update("
                f"pid={pid}, start={start}); json.dump(d, open('new', 'w'))"
            )
            script = (
                f"cd {hints} && {{ [ -e kept ] || cp containers.json kept; }}"
                f' && python3 -c "{forge}" && mv new containers.json'
            )
            lab.run(NODE, ["sh", "-c", script], user="alice")
            code, out, err = step(lab, "id")
            assert (code, out) == (125, ""), name
            said[name] = err
    finally:
        lab.run(NODE, ["sh", "-c", f"cd {hints} && mv kept containers.json"], user="alice")
        lab.run("ctl", ["scancel", plain], user="alice")
    assert f"does not belong to job {pair.job}" in said["bob's"]
    assert f"does not belong to job {pair.job}" in said["plain"]
    assert "namespace" in said["supervisor"]
    unharmed(lab, pair)


@pytest.mark.claim("H21")
def test_a_hint_that_changes_while_it_is_read_leads_nowhere_else(lab: Lab, pair: Pair) -> None:
    """Links, FIFOs and hints of bob's container take turns with the true one."""
    bobs = first_process(lab, pods.job_id(pair.bob))
    race = f"""
import json, os, time
os.chdir("{JOBS}/{pair.job}/pod")
true = open("containers.json").read()
forged = json.loads(true)
forged["containers"]["main"].update(pid={bobs["pid"]}, start={bobs["start"]})
print("ready", flush=True)
end = time.monotonic() + 5
while time.monotonic() < end:
    os.symlink("{JOBS}/{pods.job_id(pair.bob)}/pod/containers.json", "new")
    os.rename("new", "containers.json")
    with open("new", "w") as file:
        json.dump(forged, file)
    os.rename("new", "containers.json")
    time.sleep(0.001)
    os.mkfifo("new")
    os.rename("new", "containers.json")
    time.sleep(0.001)
    with open("new", "w") as file:
        file.write(true)
    os.rename("new", "containers.json")
    time.sleep(0.001)
"""
    joins = (
        f'python3 -c "$1" >race.out & until grep -q ready race.out; do sleep 0.1; done;'
        f" for i in $(seq 40); do {ENTER} --job={pair.job} --pod=alice/{VICTIM} --"
        " hostname 2>>race.err; echo $?; done; wait; sort race.err | uniq -c >&2; rm race.*"
    )
    done = lab.run(NODE, ["sh", "-c", joins, "sh", race], user="alice", timeout=90)
    assert set(done.stdout.split()) <= {VICTIM, "0", "125"}, done.stdout
    assert "0" in done.stdout.split()
    print(done.stderr)
    unharmed(lab, pair)


@pytest.mark.claim("H22")
def test_forged_names_and_comments_change_nothing(lab: Lab, pair: Pair) -> None:
    """bob's job is called as alice's is, and as if squeue's next line were about hers."""
    comment = lab.run("ctl", ["squeue", "-h", "-j", pair.job, "-o", "%k"]).stdout.strip()
    name = f"{pair.uid[:8]}/alice/{VICTIM}"
    line = f"x\n{pair.job}|FAILED|2001|{NODE}|1|None"
    jobs = []
    for forged in (line, name):
        argv = ["timeout", "30", "sbatch", "--parsable", "-w", NODE, "-J", forged]
        argv += ["--comment", line if forged == line else comment, "--wrap", "sleep 30"]
        done = lab.run("ctl", argv, user="bob")
        jobs.append(done.stdout.strip())
    try:
        pods.until(
            lambda: {pods.squeue(lab, job) for job in jobs},
            lambda states: states == {"RUNNING"},
            seconds=60,
            what="bob's jobs",
        )
        code, out, err = job_in_pod(lab, "bob", jobs[1])
        assert (code, out) == (125, "")
        assert f"job {jobs[1]} has no pod sandbox" in err
        # The agent asks Slurm for hers every few seconds.
        time.sleep(6)
        unharmed(lab, pair)
    finally:
        lab.run("ctl", ["scancel", *jobs], user="bob")


def job_in_pod(lab: Lab, user: str, job: str) -> tuple[int, str, str]:
    argv = ["timeout", "60", "srun", f"--jobid={job}", POD, "id"]
    done = lab.run("ctl", argv, user=user, check=False, timeout=90)
    return done.returncode, done.stdout, done.stderr


def token_of(lab: Lab, job: str) -> str:
    """The token of a pod's job, which only root can read."""
    script = (
        "for d in /proc/[0-9]*; do grep -q job_" + job + "/ $d/cgroup 2>/dev/null &&"
        " tr '\\0' '\\n' <$d/environ | sed -n 's/^SLURMLET_TOKEN=//p'; done | head -1"
    )
    token = lab.run(NODE, ["sh", "-c", script]).stdout.strip()
    assert len(token) == 64
    return token


def hellos(journal: str, uid: str) -> str:
    """What the agent said of hellos for a pod that it did not believe."""
    return "\n".join(line for line in journal.splitlines() if f"hello of pod {uid}" in line)


@pytest.mark.claim("H23")
def test_no_other_job_says_hello_for_a_pod(lab: Lab, pair: Pair) -> None:
    """Our own supervisor, started by bob with a made-up token, his pod's, and hers."""
    hers, his = token_of(lab, pair.job), token_of(lab, pods.job_id(pair.bob))
    agent = lab.run("ctl", ["sh", "-c", "sed -n 's/^address = //p' /etc/slurmlet/slurmlet.toml"])
    address = agent.stdout.split()[0].strip('"')
    since = lab.run("ctl", ["date", "+%s"]).stdout.strip()
    attempts = {
        # Whose token, as which job: his own job's number where none is given.
        "c1": [("0" * 64, pair.job), (his, pair.job), (his, ""), (hers, "")],
        "c2": [(hers, pair.job), (hers, "0"), (hers, "4294967295")],
    }
    jobs = []
    for node, forged in attempts.items():
        lines = [
            f"{f'SLURM_JOB_ID={job}' if job else ''} SLURMLET_AGENT={address}:10260"
            f" SLURMLET_POD_UID={pair.uid} SLURMLET_TOKEN={token} timeout 90 {SUPERVISOR} &"
            for token, job in forged
        ]
        script = "\n".join(["#!/bin/sh", *lines, "wait"])
        argv = ["timeout", "60", "sbatch", "--parsable", "-o", "/dev/null", "-w", node]
        jobs.append(lab.run("ctl", argv, user="bob", input=script).stdout.strip())
    journal = ["journalctl", "-u", "slurmlet-kubelet", "--since", f"@{since}", "-o", "cat"]
    refused = ("wrong token", "the job runs on c1", "Slurm does not know this job")
    try:
        said = pods.until(
            lambda: lab.run("ctl", journal).stdout,
            lambda text: all(word in hellos(text, pair.uid) for word in (*refused, jobs[0])),
            seconds=80,
            what="refused hellos",
        )
    finally:
        lab.run("ctl", ["scancel", *jobs], user="bob")
    assert "nothing is known of the jobs" not in said
    assert f"alice/{VICTIM}: job" not in said
    unharmed(lab, pair)


@pytest.mark.claim("H24")
def test_only_the_brokers_credential_makes_a_sandbox(lab: Lab, pair: Pair) -> None:
    """bob signs one himself, gives nonsense, more than fits, and one that was made for alice."""
    payload = json.dumps({"version": 1, "uid": 2002, "podUID": pair.uid, "mode": "host"})
    for_alice = json.dumps({"version": 1, "uid": 2001, "podUID": pair.uid, "mode": "host"})
    own = lab.run("ctl", ["munge", "--restrict-uid=0"], user="bob", input=payload).stdout.strip()
    hers = lab.run("ctl", ["munge", "--restrict-uid=0"], input=for_alice).stdout.strip()
    for credential, message in (
        (own, "was not made by root"),
        (hers, "is another user's"),
        ("MUNGE:x:", "cannot decode"),
        ("--help", "cannot decode"),
        ("A" * 5000, "pods only"),
    ):
        script = (
            f"{{ timeout 60 sbatch -W -w {NODE} -o cred.out --wrap"
            f" 'cat {JOBS}/$SLURM_JOB_ID/record.json'; }} >/dev/null; cat cred.out; rm cred.out"
        )
        argv = ["env", f"SLURMLET_CREDENTIAL={credential}", "sh", "-c", script]
        record = json.loads(lab.run("ctl", argv, user="bob", timeout=90).stdout)
        assert message in record["error"], record
        assert record["namespaces"] == {}
    unharmed(lab, pair)


@pytest.mark.claim("H25")
def test_a_record_of_ones_own_making_leads_nowhere(lab: Lab, pair: Pair) -> None:
    """In namespaces of his own bob is root, has his own /run and can write what he likes there."""
    root = f"{JOBS}/{pair.job}"
    hint = first_process(lab, pair.job)
    script = f"""
        mkdir -p /tmp/forged/{pair.job}/ns /tmp/forged/{pair.job}/pod
        cp {root}/record.json /tmp/forged/{pair.job}/
        sed -i 's/"uid": 2001/"uid": 0/' /tmp/forged/{pair.job}/record.json
        cd /tmp/forged/{pair.job}; for n in user ipc uts net; do
            [ -e {root}/ns/$n ] && touch ns/$n && mount --bind {root}/ns/$n ns/$n; done
        echo '{{"version": 1, "namespace": "alice", "pod": "{VICTIM}", "default": "main",
            "containers": {{"main": {{"pid": {hint["pid"]}, "start": {hint["start"]},
            "directory": "/", "environment": "main.env"}}}}}}' >pod/containers.json
        touch pod/main.env
        mount --bind /tmp/forged {JOBS} && cat {JOBS}/{pair.job}/record.json >/dev/null && echo set
        {ENTER} --job={pair.job} --pod=alice/{VICTIM} -- id
        {ENTER} --job={pair.job} --anchor </dev/null
        mount -t tmpfs none /proc && echo covered
        {ENTER} --job={pair.job} --pod=alice/{VICTIM} -- id
    """
    outer = (
        f"unshare --user --map-root-user --mount sh -c {shlex.quote(script)}; rm -rf /tmp/forged"
    )
    out, err = job_of(lab, "bob", outer)
    assert out.splitlines() == ["set", "covered"], err
    said = [line for line in err.splitlines() if line.startswith("slurmlet-enter: ")]
    assert len(said) == 3
    unharmed(lab, pair)


@pytest.mark.claim("H26")
def test_nobody_reads_a_pods_token(lab: Lab, pair: Pair) -> None:
    """Neither bob, who asks Slurm and /proc, nor what runs in the pod or beside it as alice."""
    token = token_of(lab, pair.job)
    asks = f"""
        scontrol show job -d {pair.job}; squeue -j {pair.job} -O tres:500; squeue -o %all
        scontrol write batch_script {pair.job} -; sacct -j {pair.job} -P -o ALL
        sacct -j {pair.job} --env-vars; sacct -j {pair.job} --batch-script; ps axeww
        grep -rs . /var/lib/slurm/slurmd/ /run/slurmlet/; cat /proc/[0-9]*/environ
    """
    out, err = job_of(lab, "bob", asks)
    assert pair.job in out
    assert token not in out + err
    look = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; ps axeww"
    argv = ["timeout", "60", "srun", f"--jobid={pair.job}", "--overlap", "sh", "-c", look]
    beside = lab.run("ctl", argv, user="alice", check=False)
    inside = step(lab, "sh", "-c", look)
    assert "slurmlet.supervisor" in beside.stdout
    assert token not in beside.stdout + beside.stderr + inside[1] + inside[2]


@pytest.mark.disruptive
@pytest.mark.claim("H27")
def test_what_a_user_fills_is_his_own(lab: Lab, pair: Pair) -> None:
    """All bytes and all inodes of the pod's directory, and locks on what root locks."""
    hints = f"{JOBS}/{pair.job}/pod"
    free = "stat -f -c '%a %d' /run"
    before = lab.run(NODE, ["sh", "-c", free]).stdout.split()
    fill = (
        f"cd {hints}; head -c 8M /dev/zero >big; rm big; mkdir many; cd many;"
        " i=0; while [ $i -lt 2000 ] && ln -s x $i; do i=$((i+1)); done; echo made $i"
    )
    done = lab.run(NODE, ["sh", "-c", fill], user="alice", check=False)
    try:
        assert done.stderr.count("No space left on device") == 2
        assert int(done.stdout.split()[1]) < 1024
        after = lab.run(NODE, ["sh", "-c", free]).stdout.split()
        assert all(int(b) - int(a) < 100 for b, a in zip(before, after, strict=True))
        assert step(lab, "hostname")[:2] == (0, f"{VICTIM}\n")
        lock = (
            f"for d in /run/slurmlet {JOBS} /run/slurmlet/network {JOBS}/{pair.job};"
            " do flock -n $d echo locked $d; done"
        )
        tried = lab.run(NODE, ["sh", "-c", lock], user="alice", check=False)
        assert f"locked {JOBS}/{pair.job}" not in tried.stdout
        assert "locked /run/slurmlet/network" not in tried.stdout
    finally:
        lab.run(NODE, ["rm", "-rf", f"{hints}/many"], user="alice")
    unharmed(lab, pair)


FLOOD = r"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(20000, 37000):
    # A call that reports what came back for an earlier datagram sends none.
    for _ in range(10):
        try:
            s.sendto(b"", ("10.77.0.12", port))
            break
        except ConnectionRefusedError:
            pass
"""
# As conntrack -F: IPCTNL_MSG_CT_DELETE of everything, acknowledged.
FORGET = r"""
import socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
s.send(struct.pack("=IHHII4x", 20, 1 << 8 | 2, 5, 1, 0))
assert struct.unpack("=i", s.recv(4096)[16:20]) == (0,)
"""


@pytest.mark.disruptive
@pytest.mark.claim("H29")
@pytest.mark.timeout(600)
def test_a_pod_does_not_fill_the_nodes_connection_table(lab: Lab, pair: Pair) -> None:
    """What was counted stays so until the end: the kernel remembers datagrams without an answer for
    30 s, and a flood takes as long as it walks the list of the pod's connections for each."""
    root = f"{JOBS}/{pair.job}"
    remembered = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout"
    seconds = lab.run(NODE, ["cat", remembered]).stdout.strip()
    count = ["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]
    before = int(lab.run(NODE, count).stdout)
    enter = ["nsenter", f"--user={root}/ns/user", f"--net={root}/ns/net"]
    lab.run(NODE, ["sh", "-c", f"echo 600 >{remembered}"])
    started = time.monotonic()
    try:
        lab.run(NODE, [*enter, "python3", "-c", FLOOD], user="alice", timeout=500)
        after = int(lab.run(NODE, count).stdout)
    finally:
        lab.run(NODE, ["sh", "-c", f"echo {seconds} >{remembered}"])
        lab.run(NODE, ["python3", "-c", FORGET])
    taken = time.monotonic() - started
    print(f"connections tracked: {before}, then {after}, in {taken:.0f} s")
    assert 15000 < after - before < 16600
    unharmed(lab, pair)


@pytest.mark.claim("H28")
def test_nothing_lives_on_after_the_job(lab: Lab, pair: Pair) -> None:
    """What hides below other parents dies; who entered from another job is left without a pod."""
    name = "hostile-brief"
    script = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
    pods.create(lab, pods.manifest(name, "sh", "-c", script, annotations=FLAGS))
    job = pods.job_id(pods.wait_for_phase(lab, name, "Running"))
    root = f"{JOBS}/{job}"
    hide = "setsid sh -c '(trap \"\" TERM HUP; sleep 1234) &' </dev/null >/dev/null 2>&1"
    argv = ["timeout", "60", "srun", f"--jobid={job}", "--overlap", "sh", "-c"]
    lab.run("ctl", [*argv, hide], user="alice")
    lab.run("ctl", ["timeout", "60", "srun", f"--k8s-pod=alice/{name}", "sh", "-c", hide],
            user="alice")  # fmt: skip
    inner = f"""
        set -- --user={root}/ns/user
        for n in ipc uts net; do [ -e {root}/ns/$n ] && set -- "$@" --$n={root}/ns/$n; done
        nsenter "$@" sh -c 'echo in; n=0
            while [ -e {root}/record.json ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done
            sed 1,2d /proc/net/dev | cut -d: -f1;
            cat {root}/record.json'
    """
    outer = (
        f"timeout 60 srun -w {NODE} sh -c {shlex.quote(inner)} >lives.out 2>&1 &"
        " until grep -q in lives.out; do sleep 0.1; done"
    )
    lab.run("ctl", ["sh", "-c", outer], user="alice")
    pods.delete(lab, name)
    gone = pods.until(
        lambda: nodes.look(lab, NODE).found,
        lambda found: job not in found["sandbox"] and "sleep 1234" not in str(found["process"]),
        seconds=30,
        what="the end of everything",
    )  # fmt: skip
    assert not any(f"/{job}/" in mount for mount in gone["mount"])
    out = pods.until(
        lambda: lab.run("ctl", ["cat", "lives.out"], user="alice").stdout,
        lambda text: "No such file" in text,
        seconds=30,
        what="the one in another job",
    )
    # Its interface went although somebody was still in its network.
    assert "eth0" not in out
    unharmed(lab, pair)
