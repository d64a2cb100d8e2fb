"""One node: an overlay on the image, booted by systemd-nspawn, entered by nsenter."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from slurmlab import cgroups
from slurmlab.errors import LabError
from slurmlab.image import NSPAWN_ENV, overlay_options
from slurmlab.names import Lab, Node
from slurmlab.process import run, spawn

BOOT_SECONDS = 60.0
"""systemd is up about 5 s after the start; three at once on two busy cores take longer."""

_KEEP_RUNNING = """
for procs in "$1" "$2"; do echo $$ >"$procs"; done
shift 2
status=133
while [ "$status" -eq 133 ]; do
    status=0
    "$@" || status=$?
    echo "systemd-nspawn ended with status $status"
done
"""
"""systemd-nspawn ends with 133 when the node reboots (with --keep-unit, as of a service)."""


def assemble(lab: Lab, node: Node, *, layers: Sequence[Path]) -> None:
    """Mount the node's root file system: its own upper directory over the image's layers."""
    upper, work = lab.node_dir(node) / "upper", lab.node_dir(node) / "work"
    for path in (upper, work, lab.root(node)):
        path.mkdir(parents=True)
    options = overlay_options(lower=layers, upper=upper, work=work)
    run(["mount", "-t", "overlay", "overlay", "-o", options, lab.root(node)])


def boot(lab: Lab, node: Node) -> None:
    """Start the node and return at once; `wait_booted` waits for it."""
    binds = [f"--bind={lab.home}:/home"]
    binds += [f"--bind={lab.cgroup(name, node.name)}:/cg1/{name}" for name in cgroups.SLURM]
    nspawn = [
        "systemd-nspawn", "--boot", "--register=no", "--keep-unit", "--console=pipe",
        "--capability=all", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
        f"--machine={lab.name}-{node.name}", f"--hostname={node.name}",
        f"--network-namespace-path={lab.netns(node)}", "-D", str(lab.root(node)), *binds,
    ]  # fmt: skip
    procs = [lab.cgroup(name, node.name) / "cgroup.procs" for name in cgroups.TRACKING]
    log = lab.node_dir(node) / "console.log"
    spawn(["sh", "-euc", _KEEP_RUNNING, "sh", *procs, *nspawn], log=log, env=NSPAWN_ENV)


def init_pid(lab: Lab, node: Node) -> int | None:
    """Return the pid (as the host counts) of the node's init, or None when it is not running."""
    for pid in cgroups.processes(lab, node.name):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        for line in status.splitlines():
            # "NSpid: HOST 1": pid 1 of a namespace directly below the host's. Containers inside
            # the node are one level deeper.
            if line.startswith("NSpid:") and line.split()[2:] == ["1"]:
                return pid
    return None


_ENTER = """
for procs in "$1" "$2"; do echo $$ 2>/dev/null >"$procs" || exit 125; done
shift 2
exec "$@"
"""


def enter_argv(lab: Lab, node: Node, argv: Sequence[str], *, user: str = "root") -> list[str]:
    """Return the host command that runs `argv` in the node as `user`, in that user's home.

    The command joins the node's cgroups, so that `down` ends it too. Raises LabError when the node
    is not running.
    """
    pid = init_pid(lab, node)
    if pid is None:
        raise LabError(f"node {node.name} of lab {lab.name} is not running: ./lab up")
    term = os.environ.get("TERM", "dumb")
    procs = [
        str(lab.cgroup("pids", node.name) / "cgroup.procs"),
        str(lab.cgroup("unified", node.name, "payload") / "cgroup.procs"),
    ]
    return [
        "sh", "-c", _ENTER, "sh", *procs, "nsenter", f"--target={pid}", "--mount", "--pid", "--net",
        "--ipc", "--uts", "--cgroup", "--root", "--wdns=/", "--", "env", "-i", f"TERM={term}",
        "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env",
        "--", "sh", "-c", 'cd && exec "$@"', "sh", *argv,
    ]  # fmt: skip


def wait_booted(lab: Lab, node: Node) -> None:
    """Wait until the node's systemd has worked through its boot; raises LabError if not."""
    deadline = time.monotonic() + BOOT_SECONDS
    console = lab.node_dir(node) / "console.log"
    state = "absent"
    while time.monotonic() < deadline:
        if init_pid(lab, node) is not None:
            asked = run(
                enter_argv(lab, node, ["systemctl", "is-system-running"]), timeout=20, check=False
            )
            state = asked.stdout.strip() or asked.stderr.strip()
            if state in ("running", "degraded"):
                return
        elif "ended with status" in (said := console.read_text(errors="replace")):
            last = " | ".join(said.strip().splitlines()[-4:])
            raise LabError(f"node {node.name} ended during its boot: {last} (log: {console})")
        time.sleep(0.2)
    raise LabError(f"node {node.name} is still {state} after {BOOT_SECONDS:.0f} s: see {console}")
