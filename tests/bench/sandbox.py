"""Prolog and epilog: what root does for a pod before its job and after it."""

import json
import re

from tests.bench.bed import Bed
from tests.bench.figures import Figure, median, number, times

PYTHON = ("/opt/slurmlet/current/bin/python", "-I", "-m", "slurmlet.spank")
LOG = "/var/log/slurm/slurmd.log"
JOB = "40000{n}"
"""Numbers that Slurm gave to no job here."""
PROLOG_AIM = 120.0
"""Milliseconds, everything in it: munge, namespaces, CNI, nft."""
NODE = "c2"


def figures(bed: Bed) -> list[Figure]:
    mode, credential = _granted(bed)
    network = "with a network" if mode == "net" else "without a network"
    make = [*PYTHON, "make", f"--job={JOB}", "--uid=2001", "--gid=2001"]
    commands = [
        {"name": "import", "argv": [*PYTHON, "remove", "--job=4000000000"]},
        {"name": "make", "argv": make, "input": credential},
        {"name": "remove", "argv": [*PYTHON, "remove", f"--job={JOB}"]},
    ]
    alone = bed.measure(NODE, commands, user="root", rotate=False)
    hooks = _hooks(bed, credential=credential)
    prolog = median(hooks["job_prolog"])
    return [
        Figure(what="`slurmlet-sandbox` with nothing to do", value=times(alone["import"])),
        Figure(what=f"`slurmlet-sandbox` make, {network}", value=times(alone["make"])),
        Figure(what=f"`slurmlet-sandbox` remove, {network}", value=times(alone["remove"])),
        Figure(
            what=f"the prolog of a pod's job as slurmd waits for it, {network}",
            value=times(hooks["job_prolog"]),
            aim=f"p50 ≤ {PROLOG_AIM:g} ms",
            met=prolog <= PROLOG_AIM,
            cause=f"start and imports of Python ({number(median(alone['import']))} ms), then seven"
            " programs one after the other: munge twice, getsubids twice, two of CNI, nft",
        ),
        Figure(
            what=f"the epilog of a pod's job as slurmd waits for it, {network}",
            value=times(hooks["job_epilog"]),
        ),
    ]


def _granted(bed: Bed) -> tuple[str, str]:
    """The mode of sandbox that pods have here, and a credential for it as the broker makes it."""
    record = bed.lab.run(bed.here.node, ["cat", f"{bed.here.sandbox}/record.json"]).stdout
    mode = json.loads(record)["mode"]
    payload = {"version": 1, "uid": 2001, "podUID": bed.here.uid, "mode": mode}
    argv = ["munge", "--restrict-uid=0"]
    return mode, bed.lab.run("ctl", argv, input=json.dumps(payload)).stdout.strip()


def _hooks(bed: Bed, *, credential: str) -> dict[str, list[float]]:
    """Milliseconds of the plugin's prolog and epilog in real jobs, by its trace in slurmd's log."""
    lab, rounds = bed.lab, max(bed.rounds // 4, 5)
    size = int(lab.run(NODE, ["stat", "-c", "%s", LOG]).stdout)
    lab.run("ctl", ["scontrol", "setdebug", "debug2", f"nodes={NODE}"])
    # More than half of the node, so that one runs after the other.
    argv = ["sbatch", "-w", NODE, "-c", "9", "-J", "bench", "-o", "/dev/null", "--wrap", "true"]
    job = {"name": "job", "argv": argv, "environment": {"SLURMLET_CREDENTIAL": credential}}
    try:
        bed.measure("ctl", [job], rounds=rounds, warmup=0)
        idle = 'until [ -z "$(squeue -h -n bench)" ]; do sleep 0.2; done'
        lab.run("ctl", ["timeout", "240", "sh", "-c", idle], timeout=250)
    finally:
        lab.run("ctl", ["scontrol", "setdebug", "info", f"nodes={NODE}"])
    log = lab.run(NODE, ["tail", "-c", f"+{size + 1}", LOG]).stdout
    found: dict[str, list[float]] = {}
    for hook in ("job_prolog", "job_epilog"):
        # Once in the log's own form; what the process says is there as well.
        took = re.findall(rf"^\[.*slurmlet: {hook} took (\d+) us", log, re.M)
        found[hook] = [int(us) / 1000 for us in took]
        if len(took) != rounds or min(found[hook]) < 1:
            raise SystemExit(f"{NODE}: {rounds} jobs, and in {LOG} {hook} took {took} us")
    return found
