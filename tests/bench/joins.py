"""What it takes to enter a pod: on the node, in srun, and a thousand times in a row."""

import json
import time

from tests.bench.bed import Bed, Pod
from tests.bench.figures import Figure, median, number, times
from tests.e2e import kept, pods
from tests.e2e.conftest import Lab

ENTER = "/opt/slurmlet/current/bin/slurmlet-enter"
NODE_AIM = 3.0
SRUN_AIM = 10.0
"""Milliseconds more than without a pod."""


def on_the_node(bed: Bed) -> list[Figure]:
    """From exec to the end of `true`, within a step of the pod's job as what a step starts."""
    pod = bed.here
    inside = ["srun", "--overlap", f"--jobid={pod.job}"]
    commands = [
        {"name": "host", "argv": ["true"]},
        {
            "name": "enter",
            "argv": [ENTER, f"--job={pod.job}", f"--pod=alice/{pod.name}", "--", "true"],
        },
    ]
    samples = bed.measure("ctl", commands, within=inside)
    more = median(samples["enter"]) - median(samples["host"])
    nsenter = bed.measure(pod.node, [_nsenter(bed.lab, pod)], user="root")["nsenter"]
    return [
        Figure(
            what="on the node: `true`, and in a pod by `slurmlet-enter`",
            value=f"p50 {number(median(samples['host']))} ms, "
            f"{number(median(samples['enter']))} ms: {more:+.2f} ms",
            aim=f"≤ {NODE_AIM:g} ms more",
            met=more <= NODE_AIM,
            cause="the node was busy: two processes are started instead of one",
        ),
        Figure(what="beside it: `nsenter` as root into the same container", value=times(nsenter)),
        _apptainer(bed),
    ]


def _nsenter(lab: Lab, pod: Pod) -> dict[str, object]:
    hint = json.loads(lab.run(pod.node, ["cat", f"{pod.sandbox}/pod/containers.json"]).stdout)
    pid = hint["containers"][hint["default"]]["pid"]
    return {"name": "nsenter", "argv": ["nsenter", f"--target={pid}", "--all", "true"]}


_INSTANCE = f"""
set -eu
tree=$(mktemp -d)
trap 'apptainer -s instance stop bench >&2; chmod -R u+w "$tree"; rm -rf "$tree"' EXIT
apptainer -s build --force --no-https --sandbox "$tree" docker://{pods.BUSYBOX} >&2
apptainer -s instance start "$tree" bench >&2
"$@"
"""


def _apptainer(bed: Bed) -> Figure:
    """An instance of the pod's image, in the same job; it ends with the step that started it."""
    command = {"name": "exec", "argv": ["apptainer", "-s", "exec", "instance://bench", "true"]}
    inside = ["srun", "--overlap", f"--jobid={bed.here.job}", "sh", "-c", _INSTANCE, "sh"]
    spent = bed.measure("ctl", [command], within=inside)["exec"]
    return Figure(
        what="beside it: `apptainer exec instance://` of the same image", value=times(spent)
    )


def in_srun(bed: Bed) -> list[Figure]:
    """As the user sees it, from the login node."""
    job = f"--jobid={bed.here.job}"
    samples = bed.measure(
        "ctl",
        [
            {"name": "overlap", "argv": ["srun", "--overlap", job, "true"]},
            {"name": "job", "argv": ["srun", bed.here.option, job, "true"]},
            {"name": "search", "argv": ["srun", bed.here.option, "true"]},
        ],
    )
    plain = median(samples["overlap"])
    rows = [Figure(what="plain `srun --overlap --jobid=J true`", value=times(samples["overlap"]))]
    for name, what in (
        ("job", "`srun --k8s-pod=NS/POD --jobid=J true`"),
        ("search", "`srun --k8s-pod=NS/POD true`"),
    ):
        more = median(samples[name]) - plain
        rows.append(
            Figure(
                what=what,
                value=f"{times(samples[name])}: {more:+.1f} ms",
                aim=f"≤ {SRUN_AIM:g} ms more",
                met=more <= SRUN_AIM,
                cause="srun starts twice: it reads slurm.conf and loads Slurm's plugins once more",
            )
        )
    return rows


def in_a_row(bed: Bed) -> list[Figure]:
    pod = bed.here
    before = kept.look(bed.lab, node=pod.node, job=pod.job)
    begin = time.monotonic()
    command = {"name": "join", "argv": ["srun", pod.option, "true"]}
    samples = bed.measure("ctl", [command], rounds=bed.joins, warmup=0)["join"]
    spent = time.monotonic() - begin
    more = kept.wait_until_no_more(bed.lab, before, node=pod.node, job=pod.job)
    return [
        Figure(what=f"{bed.joins} short joins in a row, {spent:.0f} s", value=times(samples)),
        Figure(
            what="what they left: descriptors of slurmd, supervisor, anchor and the job's"
            " slurmstepds; mounts; namespaces; processes",
            value=kept.text(more),
            aim="nothing",
            met=not more,
            cause="something is not closed",
        ),
    ]
