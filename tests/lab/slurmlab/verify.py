"""`verify`: one line per check that the lab is what it claims to be."""

import json
import secrets
import time
from collections.abc import Callable, Sequence

from slurmlab import agreement, leftovers, node, status, witness
from slurmlab.errors import LabError
from slurmlab.lab import read_state
from slurmlab.names import NODES, REGISTRY, USERS, Lab, Node, node_named
from slurmlab.process import run

SLURM_SECONDS = "30"
"""No srun waits longer: on a drained node it would wait for ever."""

ACCOUNTING_SECONDS = 20.0
"""slurmctld hands finished jobs to slurmdbd within a second or so."""

LEAVING_SECONDS = 180.0
"""A job that ended a moment ago has its epilog before it, and an address rests for a minute."""

SLURMLET = "/opt/slurmlet/current/bin/slurmlet"
SECOND_AGENT = "slurmlet-kubelet-second.service"
"""The unit in which tests start an agent beside the one that runs."""
ADMIN = "/etc/slurmlet/pki/admin.conf"


class SkippedError(Exception):
    """A check that has nothing to look at; its text is the reason."""


class WrongError(Exception):
    """A check that failed; its text is what was seen."""


def verify(lab: Lab) -> None:
    """Run all checks and print a line for each; raises LabError when one fails."""
    failed = 0
    for title, check in CHECKS:
        started = time.monotonic()
        try:
            word, text = "ok", check(lab)
        except SkippedError as reason:
            word, text = "skipped", str(reason)
        except (WrongError, LabError) as error:
            word, text = "FAILED", str(error)
            failed += 1
        print(f"{word:8}{title}: {text} ({time.monotonic() - started:.1f} s)", flush=True)
    if failed:
        raise LabError(f"{failed} of {len(CHECKS)} checks failed")


def _on(
    lab: Lab, name: str, argv: Sequence[str], *, user: str = "root", stdin: str | None = None
) -> str:
    """Run a command on a node; WrongError with its last words when it fails."""
    words = node.enter_argv(lab, node_named(name), argv, user=user)
    done = run(words, timeout=60, check=False, stdin=stdin)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise WrongError(
            f"{user}@{name}: {' '.join(argv)[:80]} gave {done.returncode}: {''.join(said)}"
        )
    return done.stdout


def _compute() -> list[Node]:
    return [each for each in NODES if each.role == "compute"]


def _nodes(lab: Lab) -> str:
    for each in NODES:
        failed = _on(lab, each.name, ["systemctl", "--failed", "--no-legend", "--plain"])
        if failed.strip():
            raise WrongError(f"{each.name} has failed units: {failed.split()[0]}")
    return ", ".join(each.name for each in NODES)


def _units(lab: Lab) -> str:
    total = 0
    for each in NODES:
        states = status.unit_states(lab, each)
        bad = [f"{name} is {state}" for name, state in states.items() if state != "active"]
        if bad:
            raise WrongError(f"{each.name}: {', '.join(bad)}")
        total += len(states)
    return f"{total} active"


def _network(lab: Lab) -> str:
    host = {link["ifname"] for link in json.loads(run(["ip", "-j", "link"]).stdout)}
    mine = {each.name for each in NODES} | {"br0"}
    if host & mine:
        raise WrongError(f"interfaces of a lab in the host's namespace: {sorted(host & mine)}")
    for each in NODES:
        _on(lab, "ctl", ["ping", "-c1", "-W2", each.address])
    return "nodes reach each other, the host has no interface of the lab"


def _munge(lab: Lab) -> str:
    for each in _compute():
        credential = _on(lab, each.name, ["munge", "-n"])
        _on(lab, "ctl", ["unmunge"], stdin=credential)
    return "ctl decodes credentials of c1 and c2"


def _registry(lab: Lab) -> str:
    listed = json.loads(_on(lab, "c1", ["curl", "-sf", f"http://{REGISTRY}/v2/_catalog"]))
    for each in _compute():
        argv = ["skopeo", "inspect", "--raw", f"docker://{REGISTRY}/busybox:1.37"]
        _on(lab, each.name, argv, user="alice")
    return " ".join(listed["repositories"])


def _slurm(lab: Lab) -> str:
    seen = _on(lab, "ctl", ["sinfo", "-h", "-N", "-o", "%N %P %t"]).splitlines()
    states = {line.split()[0]: line.split()[2] for line in seen}
    bad = [
        f"{name} {word}" for name, word in states.items() if word not in ("idle", "mix", "alloc")
    ]
    if bad or len(states) != len(_compute()):
        raise WrongError(f"nodes: {', '.join(bad) or seen}")
    return ", ".join(f"{name} {word}" for name, word in sorted(states.items()))


def _accounting(lab: Lab) -> str:
    numbers = []
    for user, each in ((user, each) for user in USERS for each in _compute()):
        name = f"verify-{secrets.token_hex(4)}"
        argv = ["timeout", SLURM_SECONDS, "srun", "-w", each.name, "-J", name, "hostname"]
        if _on(lab, "ctl", argv, user=user.name).strip() != each.name:
            raise WrongError(f"a job of {user.name} for {each.name} ran elsewhere")
        rows = _sacct_row(lab, name)
        if rows != f"{user.name}|{user.account}|COMPLETED|{each.name}":
            raise WrongError(f"sacct says {rows!r} of job {name} of {user.name} on {each.name}")
        numbers.append(name)
    return f"{len(numbers)} jobs of alice and bob on c1 and c2 have their rows"


def _sacct_row(lab: Lab, name: str) -> str:
    argv = ["sacct", "-a", "-X", "-n", "-P", "--name", name, "-o", "User,Account,State,NodeList"]
    deadline = time.monotonic() + ACCOUNTING_SECONDS
    while True:
        rows = _on(lab, "ctl", argv).strip()
        if "COMPLETED" in rows or time.monotonic() > deadline:
            return rows
        time.sleep(0.3)


def _limits(lab: Lab) -> str:
    hog = "b = bytearray(300 << 20); print(len(b))"
    for each in _compute():
        argv = ["timeout", SLURM_SECONDS, "srun", "-Q", "-w", each.name]
        inside = node.enter_argv(
            lab, node_named("ctl"), [*argv, "--mem=100", "python3", "-c", hog], user="alice"
        )
        if run(inside, timeout=60, check=False).returncode == 0:
            raise WrongError(f"a job with 100 MiB allocated 300 MiB on {each.name}")
        fits = [*argv, "--mem=400", "python3", "-c", hog]
        _on(lab, "ctl", fits, user="alice")
    return "300 MiB are refused under --mem=100 and granted under --mem=400 on c1 and c2"


def _privilege(lab: Lab) -> str:
    argv = ["sacctmgr", "-n", "-P", "list", "user", "slurmlet", "format=User,AdminLevel"]
    if row := _on(lab, "ctl", argv).strip():
        raise WrongError(f"the system user slurmlet is known to Slurm: {row}")
    return "user slurmlet is unknown to Slurm"


def _rolled_out(lab: Lab) -> None:
    if read_state(lab).get("phase") != "rolled-out":
        raise SkippedError("nothing is rolled out (up --no-rollout)")


def _kubectl(lab: Lab, *args: str) -> str:
    return _on(lab, "ctl", ["env", f"KUBECONFIG={ADMIN}", "kubectl", *args])


def _control_plane(lab: Lab) -> str:
    _rolled_out(lab)
    _kubectl(lab, "get", "--raw", "/readyz")
    for user in USERS:
        _on(lab, "ctl", ["kubectl", "get", "pods"], user=user.name)
        argv = ["kubectl", "auth", "can-i", "create", "pods", "-n", "kube-system"]
        if (
            run(
                node.enter_argv(lab, node_named("ctl"), argv, user=user.name), check=False
            ).returncode
            == 0
        ):
            raise WrongError(f"{user.name} may create pods in kube-system")
    return "the API server is ready and knows alice and bob"


def _virtual_node(lab: Lab) -> str:
    _rolled_out(lab)
    items = json.loads(_kubectl(lab, "get", "nodes", "-o", "json"))["items"]
    if not items:
        raise WrongError("no node is registered")
    for item in items:
        ready = [c["status"] for c in item["status"]["conditions"] if c["type"] == "Ready"]
        if ready != ["True"]:
            raise WrongError(f"node {item['metadata']['name']} is not Ready")
    shown = items[0]["status"]["capacity"]
    return f"{items[0]['metadata']['name']} Ready, cpu {shown['cpu']}, memory {shown['memory']}"


def _agreement(lab: Lab) -> str:
    _rolled_out(lab)
    users = {user.name: user.name for user in USERS}
    deadline = time.monotonic() + ACCOUNTING_SECONDS
    while True:
        pods = json.loads(_kubectl(lab, "get", "pods", "-A", "-o", "json"))["items"]
        queue = agreement.parse(_on(lab, "ctl", ["squeue", "-h", "-t", "all", "-o", "%i|%u|%T|%j"]))
        argv = [
            "sacct",
            "-a",
            "-X",
            "-n",
            "-P",
            "-S",
            "now-2days",
            "-o",
            "JobIDRaw,User,State,JobName",
        ]
        rows = agreement.parse(_on(lab, "ctl", argv))
        wrong = agreement.disagreements(pods=pods, queue=queue, accounting=rows, users=users)
        if not wrong:
            break
        if time.monotonic() > deadline:  # the database lags, and a deletion may be under way
            raise WrongError("; ".join(wrong[:3]))
        time.sleep(1)
    jobs = [job for job in rows if job.pod]
    owners = ", ".join(sorted({job.user for job in jobs})) or "nobody"
    return f"{len(pods)} pods, {len(jobs)} jobs of pods in sacct, owned by {owners}"


def _pod_network(lab: Lab) -> str:
    _rolled_out(lab)
    control = next(each.address for each in NODES if each.role == "control")
    for each in NODES:
        doctor = [SLURMLET, "doctor", "--dns", control]
        done = run(node.enter_argv(lab, each, doctor), timeout=60, check=False)
        if done.returncode != 0:
            raise WrongError(f"{each.name}: {' | '.join(done.stdout.splitlines())}")
        shown = _on(lab, each.name, ["ip", "-json", "route", "show"])
        known = {route["dst"] for route in json.loads(shown)}
        missing = {other.pods for other in _compute()} - known
        if missing:
            raise WrongError(f"{each.name} has no route to {', '.join(sorted(missing))}")
    ranges = ", ".join(each.pods for each in _compute())
    return f"routes to {ranges} on all nodes, the DNS server answers all"


def _witness(lab: Lab) -> str:
    _rolled_out(lab)
    deadline = time.monotonic() + ACCOUNTING_SECONDS
    boots = "grep -H ' INFO audit container ' /home/*/.slurmlet/*/boot/*.boot || :"
    while True:
        audit = [SLURMLET, "audit", "--json", f"--unit={SECOND_AGENT}"]
        argv = node.enter_argv(lab, node_named("ctl"), audit, user="root")
        done = run(argv, timeout=300, check=False)
        if done.returncode not in (0, 1):
            raise WrongError(done.stderr.strip()[-200:])
        report = json.loads(done.stdout)
        started = witness.starts(_on(lab, "ctl", ["sh", "-c", boots]))
        wrong = witness.problems(report, started)
        if not wrong:
            return witness.summary(report, started)
        if time.monotonic() > deadline:
            more = f" … and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise WrongError("; ".join(wrong[:5]) + more)
        time.sleep(1)


def _left(lab: Lab) -> str:
    deadline = time.monotonic() + LEAVING_SECONDS
    while True:
        rows = [
            line.split() for line in _on(lab, "ctl", ["squeue", "-h", "-o", "%i %U"]).splitlines()
        ]
        jobs, owners = {int(row[0]) for row in rows}, {int(row[1]) for row in rows}
        wrong = []
        for each in NODES:
            argv = ["python3", "-I", "-c", leftovers.LOOK, each.role]
            traces = leftovers.parse(_on(lab, each.name, argv))
            wrong += [
                f"{each.name}: {text}" for text in leftovers.left(traces, jobs=jobs, owners=owners)
            ]
        for each in _compute():
            if any(text.startswith(f"{each.name}: lease") for text in wrong):
                # Addresses that have rested become free in the next epilogs of their node, as many
                # as each manages in a moment.
                epilogs = f"for i in 1 2 3 4; do timeout 10 srun -w {each.name} true; done"
                _on(lab, "ctl", ["sh", "-c", epilogs], user="alice")
        if not wrong:
            return (
                f"nothing on {', '.join(each.name for each in NODES)}; {len(jobs)} jobs are alive"
            )
        if time.monotonic() > deadline:
            more = f" … and {len(wrong) - 8} more" if len(wrong) > 8 else ""
            raise WrongError("; ".join(wrong[:8]) + more)
        time.sleep(3)


CHECKS: tuple[tuple[str, Callable[[Lab], str]], ...] = (
    ("nodes up", _nodes),
    ("units", _units),
    ("network", _network),
    ("munge", _munge),
    ("registry", _registry),
    ("Slurm nodes", _slurm),
    ("accounting", _accounting),
    ("memory limits", _limits),
    ("privilege", _privilege),
    ("control plane", _control_plane),
    ("virtual node", _virtual_node),
    ("pod network", _pod_network),
    ("pods, squeue and sacct agree", _agreement),
    ("one job has a pod's plan", _witness),
    ("what pods left", _left),
)
