"""What joins could leave on a compute node: descriptors, mounts, namespaces, processes."""

import json
from collections.abc import Mapping

from tests.e2e import pods
from tests.e2e.conftest import Lab

Counts = Mapping[str, int]

PATIENCE = 60.0
"""Seconds for what ends by itself: slurmstepd of the last step, a connection of slurmd's."""

_LOOK = """
import glob, json, os, sys
job = sys.argv[1]
counts = {}
namespaces = set()
for path in glob.glob("/proc/[0-9]*"):
    try:
        words = open(path + "/cmdline", "rb").read().decode(errors="replace").split("\\0")
        group = open(path + "/cgroup").read()
        # Those of who looks are not meant.
        if int(path[6:]) in (os.getpid(), os.getppid()):
            continue
        for kind in os.listdir(path + "/ns"):
            namespaces.add(os.readlink(f"{path}/ns/{kind}"))
        who = ""
        if words[0].endswith("/slurmd"):
            who = "slurmd"
        elif "slurmlet.supervisor" in words and f"/job_{job}/" in group:
            who = "supervisor"
        elif words[0].endswith("/slurmlet-enter") and f"--job={job}" in words and (
            "--anchor" in words
        ):
            who = "anchor"
            mounts = len(open(path + "/mountinfo").readlines())
            counts["mounts of the pod"] = max(mounts, counts.get("mounts of the pod", 0))
        elif words[0].startswith(f"slurmstepd: [{job}."):
            who = "slurmstepd"
        if who:
            name = "descriptors of " + who
            counts[name] = counts.get(name, 0) + len(os.listdir(path + "/fd"))
        if f"/job_{job}/" in group:
            counts["processes of the job"] = counts.get("processes of the job", 0) + 1
    except OSError:
        continue
counts["mounts of the node"] = len(open("/proc/1/mountinfo").readlines())
counts["namespaces of the node"] = len(namespaces)
json.dump(counts, sys.stdout)
"""


def look(lab: Lab, *, node: str, job: str) -> Counts:
    """How much there is of each, by name; an AssertionError where a process is not found."""
    counts: dict[str, int] = json.loads(lab.run(node, ["python3", "-c", _LOOK, job]).stdout)
    for who in ("slurmd", "supervisor", "anchor", "slurmstepd"):
        assert f"descriptors of {who}" in counts, counts
    return counts


def wait_until_no_more(lab: Lab, before: Counts, *, node: str, job: str) -> dict[str, str]:
    """What there is more of than before, in words, after giving it time to end."""
    last: dict[str, str] = {}

    def more() -> dict[str, str]:
        nonlocal last
        now = look(lab, node=node, job=job)
        last = {
            name: f"{before.get(name, 0)} → {count}"
            for name, count in now.items()
            if count > before.get(name, 0)
        }
        return last

    try:
        pods.until(more, lambda found: not found, seconds=PATIENCE, what="what joins left")
    except AssertionError:
        return last
    return {}


def text(more: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {counts}" for name, counts in more.items()) or "nothing"
