"""A plain `srun true`, with the plugin and without."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.bed import Bed, Samples
from tests.bench.figures import Figure, median, number
from tests.e2e import pods
from tests.e2e.conftest import Lab

LINE = "/etc/slurm/plugstack.conf.d/zz-slurmlet.conf"
TURNS = (True, False, False, True, True, False)
"""With, without and so on: what drifts in one direction falls on both."""
NODE = "c2"
"""Its slurmd is started anew for each turn: it asks once, at its start, for prologs."""
TRACE_AIM = 0.1
"""Milliseconds of all hooks."""
SLURMSTEPD = (
    "Slurm itself starts `slurmstepd spank prolog`, and `slurmstepd spank epilog` at the end, for"
    " every job as soon as any plugin has a prolog; a step in a job that runs has none of it"
)


def figures(bed: Bed) -> list[Figure]:
    samples: dict[bool, list[Samples]] = {True: [], False: []}
    rounds = max(bed.rounds // 5, 5)
    with _job(bed.lab) as job:
        commands = [
            {"name": "job", "argv": ["srun", "-w", NODE, "true"]},
            {"name": "step", "argv": ["srun", "--overlap", f"--jobid={job}", "true"]},
        ]
        try:
            for present in TURNS:
                _set(bed.lab, present=present)
                samples[present].append(bed.measure("ctl", commands, rounds=rounds))
        finally:
            _set(bed.lab, present=True)
    return [
        _difference("`srun true`, a step in a running job", "step", samples),
        _difference("`srun true`, a new job", "job", samples, cause=SLURMSTEPD),
        *_traced(bed.lab),
    ]


def _difference(
    what: str, name: str, samples: dict[bool, list[Samples]], *, cause: str = ""
) -> Figure:
    """The difference of the medians; noise is how far turns of the same kind are apart."""
    turns = {present: [median(turn[name]) for turn in samples[present]] for present in samples}
    with_plugin, without = (
        median([value for turn in samples[present] for value in turn[name]])
        for present in (True, False)
    )
    noise = max(max(values) - min(values) for values in turns.values())
    difference = with_plugin - without
    return Figure(
        what=f"{what}: with the plugin, without",
        value=f"p50 {number(with_plugin)} ms, {number(without)} ms:"
        f" {difference:+.1f} ms; noise {number(noise)} ms",
        aim="difference below noise",
        met=difference <= noise,
        cause=cause,
    )


def _traced(lab: Lab) -> list[Figure]:
    """What the plugin says itself that its hooks took; only root may have slurmd's side of it."""
    argv = ["timeout", "60", "srun", "-vvv", "--slurmd-debug=debug2", "-w", NODE, "true"]
    said = lab.run("ctl", argv).stderr
    figures = []
    for program, hook in (("srun", "local_user_init"), ("slurmstepd", "task_init")):
        last = re.search(rf"{program}.*slurmlet: {hook} took .* all of them (\d+) us", said)
        if last is None:
            raise SystemExit(f"the plugin traced nothing in {program}: {said[-2000:]}")
        spent = int(last[1]) / 1000
        figures.append(
            Figure(
                what=f"the plugin's hooks in {program}, by its own trace",
                value=f"{spent:.3f} ms",
                aim=f"< {TRACE_AIM} ms",
                met=spent < TRACE_AIM,
            )
        )
    return figures


@contextmanager
def _job(lab: Lab) -> Iterator[str]:
    argv = ["sbatch", "--parsable", "-w", NODE, "-o", "/dev/null", "--wrap", "sleep 1800"]
    job = lab.run("ctl", ["timeout", "30", *argv], user="alice").stdout.strip()
    try:
        pods.until(
            lambda: pods.squeue(lab, job),
            lambda state: state == "RUNNING",
            seconds=60,
            what=f"job {job}",
        )
        yield job
    finally:
        lab.run("ctl", ["timeout", "30", "scancel", job], user="alice")


def _set(lab: Lab, *, present: bool) -> None:
    here, there = (f"{LINE}.aside", LINE) if present else (LINE, f"{LINE}.aside")
    for node in ("ctl", NODE):
        lab.run(node, ["sh", "-c", f"[ -e {there} ] || mv {here} {there}"])
    lab.run(NODE, ["systemctl", "restart", "slurmd"])
