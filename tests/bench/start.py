"""`make bench-start`: what it takes to start, hear and end a pod, beside a bare job of Slurm."""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import bed
from tests.bench.figures import Figure, median, number, replace_section, seconds, table
from tests.e2e import pods
from tests.e2e.conftest import ROOT, UP_SECONDS, Lab, lab_command

STOPWATCH = (Path(__file__).parent / "stopwatch.py").read_text()
PAGE = ROOT / "docs" / "figures.md"
SECTION = "bench-start"
ENGINES = ("crun", "apptainer")
NODE = "c1"
OPTIONS = ["-w", NODE, "-n1", "--mem=256"]
FLAGS = "--exclude=c2"
STATE = ".slurmlet/lab"
ROUND_SECONDS = 60
"""On a machine with much else to do; five on one without."""

START_AIM = 0.5
"""Seconds from apply to Running, more than the bare job takes to its script."""
LINE_AIM, PLAN_AIM = 0.2, 0.2
MEMORY_AIM = 15.0
"""MiB of a supervisor's own memory."""

_NOW = 'echo "at {} $EPOCHREALTIME"'
_FIRST_LINE = f'"$@" | {{ read -r line && {_NOW.format("process")}; cat >/dev/null; }}'
_BUNDLE = """
bundle=$(mktemp -d); trap 'rm -rf "$bundle"' EXIT; cd "$bundle"
crun spec --rootless
python3 - "$1" <<'X'
import json, sys
config = json.load(open("config.json"))
config["process"].update(terminal=False, args=["echo", "up"])
config["root"].update(path=sys.argv[1])
json.dump(config, open("config.json", "w"))
X
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What the stopwatch returned: name → what happened → seconds, one per round."""

    jobs: Mapping[str, Mapping[str, Sequence[float]]]
    pods: Mapping[str, Mapping[str, Sequence[float]]]
    lines: Sequence[float]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table, or writes it into docs/figures.md."""
    parser = argparse.ArgumentParser(prog="bench-start", description=__doc__)
    parser.add_argument("--lab", default=os.environ.get("LAB") or "slurmlet", help="its name")
    parser.add_argument("--rounds", type=int, default=20, help="of everything (20)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/figures.md")
    given = parser.parse_args(argv)
    up = lab_command("up", "--name", given.lab, timeout=UP_SECONDS)
    if up.returncode != 0:
        raise SystemExit(f"{up.stdout}\nthe lab {given.lab} does not come up")
    lab = Lab(name=given.lab)
    release = lab.run("ctl", ["sinfo", "--version"]).stdout.split()[-1]
    conditions = f"Slurm {release}, {bed.conditions()}, {given.rounds} rounds"
    begin = time.monotonic()
    figures = measure(lab, rounds=given.rounds)
    minutes = (time.monotonic() - begin) / 60
    text = f"{conditions}; the run took {minutes:.0f} minutes.\n\n{table(figures)}\n"
    print(text)
    if given.write:
        PAGE.write_text(replace_section(PAGE.read_text(), name=SECTION, text=text))
    return 0


def measure(lab: Lab, *, rounds: int) -> list[Figure]:
    talker = "bench-talker"
    pods.delete(lab, talker)
    try:
        # It brings the image into the cache, too.
        pods.create(lab, pod(talker, "while :; do echo tick; sleep 0.1; done"))
        pods.wait_for_phase(lab, talker, "Running")
        runs = stopwatch(lab, rounds=rounds, talker=talker, rootfs=rootfs(lab))
    finally:
        pods.delete(lab, talker)
    memory = own_memory(lab, count=max(rounds, 20))
    return rows(runs, memory)


def pod(name: str, script: str, *, engine: str = ENGINES[0]) -> dict[str, Any]:
    annotations = {"slurmlet.io/flags": FLAGS, "slurmlet.io/engine": engine}
    return pods.manifest(name, "sh", "-c", script, annotations=annotations)


def rootfs(lab: Lab) -> str:
    """The image of the pods, unpacked in alice's cache."""
    cache = ".cache/slurmlet/images"
    script = f"cd {cache} && for f in names/*; do cat $f; echo; done; ls -d $PWD/images/*"
    said = lab.run("ctl", ["sh", "-c", script], user="alice").stdout.splitlines()
    names = [json.loads(line) for line in said if line.startswith("{")]
    digest = next(each["digest"] for each in names if each["name"] == pods.BUSYBOX)
    entry = next(
        line for line in said if digest.removeprefix("sha256:") in line and "/" in line[:1]
    )
    return f"{entry}/rootfs"


def stopwatch(lab: Lab, *, rounds: int, talker: str, rootfs: str) -> Runs:
    idle = "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done"
    begin = f"#!/bin/bash\n{_NOW.format('script')}\n"
    run = {
        "crun": f'crun --cgroup-manager=disabled --root="$PWD/state" run bench-{os.getpid()}',
        "apptainer": f"apptainer -s exec {rootfs} echo up",
    }
    given = {
        "namespace": "alice",
        "state": STATE,
        "options": OPTIONS,
        "rounds": rounds,
        "jobs": {
            "bare": begin,
            "crun": f"{begin}set -- {rootfs}\n{_BUNDLE}set -- {run['crun']}\n{_NOW.format('exec')}"
            f"\n{_FIRST_LINE}\n",
            "apptainer": f"{begin}set -- {run['apptainer']}\n{_NOW.format('exec')}"
            f"\n{_FIRST_LINE}\n",
        },
        "pods": {engine: pod(f"bench-{engine}", idle, engine=engine) for engine in ENGINES},
        "talker": talker,
        "lines": 5 * rounds,
    }
    argv = ["python3", "-c", STOPWATCH, json.dumps(given)]
    patience = 120 + ROUND_SECONDS * (rounds + 1)
    found = json.loads(lab.run("ctl", argv, user="alice", timeout=patience).stdout)
    return Runs(
        jobs={name: columns(runs) for name, runs in found["jobs"].items()},
        pods={name: columns(runs) for name, runs in found["pods"].items()},
        lines=found["lines"],
    )


def columns(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    return {key: [run[key] for run in runs] for key in runs[0]}


def own_memory(lab: Lab, *, count: int) -> list[float]:
    """MiB that supervisors of pods at rest have for themselves."""
    names = [f"bench-rest-{index}" for index in range(count)]
    look = (
        "for d in /proc/[0-9]*; do tr '\\0' ' ' <$d/cmdline 2>/dev/null"
        " | grep -q -- '-m slurmlet.supervisor' && sed -n 's/^RssAnon://p' $d/status; done; true"
    )
    made = [pods.manifest(name, "sleep", "900") for name in names]
    for each in made:
        each["spec"]["terminationGracePeriodSeconds"] = 1
    pods.delete(lab, *names)
    try:
        pods.create(lab, *made)
        pods.until(
            lambda: [pods.phase(each) for each in pods.get_all(lab, names).values()],
            lambda phases: phases == ["Running"] * count,
            seconds=300,
            what="pods at rest",
        )
        said = "".join(lab.run(node, ["sh", "-c", look]).stdout for node in ("c1", "c2"))
    finally:
        pods.delete(lab, *names)
    return [int(line.split()[0]) / 1024 for line in said.splitlines()]


def rows(runs: Runs, memory: Sequence[float]) -> list[Figure]:
    bare = runs.jobs["bare"]["script"]
    found = [Figure(what="`sbatch` → its script runs", value=seconds(bare))]
    for engine in ENGINES:
        what = f"`sbatch` of `{engine}` alone → its process has written a line"
        found.append(Figure(what=what, value=seconds(runs.jobs[engine]["process"])))
    for engine in ENGINES:
        ran = runs.pods[engine]
        more = median(ran["running"]) - median(bare)
        found += [
            Figure(
                what=f"pod ({engine}) created → its first line",
                value=seconds(ran["line"]),
            ),
            Figure(
                what=f"pod ({engine}) created → Running at a watch",
                value=f"{seconds(ran['running'])}: {more * 1000:+.0f} ms over the bare job",
                aim=f"≤ {START_AIM * 1000:g} ms over the bare job",
                met=more <= START_AIM,
                cause=stages(ran),
            ),
            Figure(
                what=f"pod ({engine}) deleted → gone at a watch, its job gone from squeue",
                value=f"{seconds(ran['deleted'])}; {seconds(ran['gone'])}",
            ),
        ]
    plan = [value for engine in ENGINES for value in runs.pods[engine]["plan"]]
    return [
        *found,
        Figure(
            what="a line written → seen by `kubectl logs -f`",
            value=seconds(runs.lines),
            aim=f"≤ {LINE_AIM * 1000:g} ms",
            met=median(runs.lines) <= LINE_AIM,
        ),
        Figure(
            what="supervisor: started by the job's script → has the plan",
            value=seconds(plan),
            aim=f"≤ {PLAN_AIM * 1000:g} ms",
            met=median(plan) <= PLAN_AIM,
            cause="imports, TLS, and the agent's questions to Slurm and munge before it answers",
        ),
        Figure(
            what=f"supervisor: RssAnon while {len(memory)} pods run",
            value=f"p50 {number(median(memory))} MiB, most {number(max(memory))} MiB",
            aim=f"≤ {MEMORY_AIM:g} MiB",
            met=max(memory) <= MEMORY_AIM,
            cause="Python with asyncio and TLS",
        ),
    ]


def stages(ran: Mapping[str, Sequence[float]]) -> str:
    """Where the time goes, in medians."""
    order = ("created", "bound", "submitted", "exec", "planned", "line", "running")
    words = [f"{stage} {median(ran[stage]) * 1000:.0f}" for stage in order]
    return f"ms after the request: {', '.join(words)}"


if __name__ == "__main__":
    sys.exit(main())
