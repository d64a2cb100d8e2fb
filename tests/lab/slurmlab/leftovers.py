"""What pods left on a node: whatever belongs to no job that is alive. The judge is pure."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

LOOK = r"""
import json, os, pathlib, re, subprocess, sys, time

control = sys.argv[1] == "control"
found = []

def say(kind, text, job=None, owner=None):
    found.append({"kind": kind, "text": text, "job": job and int(job), "owner": owner})

def out(*argv):
    return subprocess.run(argv, capture_output=True, text=True).stdout

def entries(path):
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []

def age(path):
    try:
        return time.time() - os.lstat(path).st_ctime
    except OSError:
        return 0

def processes():
    for entry in entries("/proc"):
        base = pathlib.Path("/proc", entry)
        try:
            uid = base.stat().st_uid if entry.isdecimal() else 0
            words = (base / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            group = (base / "cgroup").read_text()
        except OSError:
            continue
        job = re.search(r"/job_(\d+)", group)
        ours = re.search(r"slurmlet[.-](supervisor|enter|sandbox)", words)
        if ours or not control and (job or 1000 <= uid < 65534):
            yield f"{words.strip()[:100] or entry} (uid {uid})", job and job[1], uid

if not control:
    jobs = "/run/slurmlet/jobs"
    names = {}
    for job in entries(jobs):
        say("sandbox", f"{jobs}/{job}", job if job.isdecimal() else None)
        try:
            record = json.loads(pathlib.Path(jobs, job, "record.json").read_text())
            names[(record.get("interface") or {}).get("name")] = job
        except (OSError, ValueError):
            pass
    for link in json.loads(out("ip", "-j", "-d", "link") or "[]"):
        if link.get("linkinfo", {}).get("info_kind") == "veth" and link["ifname"] != "eth0":
            say("interface", link["ifname"], names.get(link["ifname"]))
    table = json.loads(out("nft", "-j", "list", "table", "inet", "slurmlet") or "{}")
    for entry in table.get("nftables", ()):
        name = (entry.get("set") or {}).get("name")
        for element in (entry.get("set") or {}).get("elem") or ():
            words = json.dumps(element)
            known = [job for link, job in names.items() if link and f'"{link}"' in words]
            # What is denied is the site's configuration.
            if name not in ("deny", "deny6"):
                say("rule", f"{name}: {words[:100]}", known[0] if known else None)
    for line in open("/proc/1/mountinfo"):
        root, target = line.split()[3:5]
        job = re.match(r"/run/slurmlet/jobs/(\d+)/|/tmp/slurmlet-(\d+)-", target)
        if job or re.match(r"(net|user|ipc|uts|mnt|pid):\[", root):
            say("mount", target, job and (job[1] or job[2]))
    for path in pathlib.Path("/run/slurmlet").rglob("*"):
        lease = re.search(r"/\d+\.\d+\.\d+\.\d+$", str(path))
        if path.parent.name == "resting" and path.is_file():
            # Without an address it is a plugin's DEL that failed and is tried again some times.
            lease = json.loads(path.read_text())["addresses"]
        if lease and path.is_file() and age(path) > 90:
            # Both begin with, or are called by, JOB-RANDOM.
            owner = re.match(r"(\d+)-", path.stem) or re.match(r"(\d+)-", path.read_text())
            say("lease", str(path), owner and owner[1])
    # Slurm itself now and then leaves an empty one of version 1 behind, also of plain jobs.
    for path in pathlib.Path("/cg1").glob("*/slurm*/**/cgroup.procs"):
        job = re.search(r"/job_(\d+)/", str(path))
        if job and path.read_text().split():
            say("cgroup", str(path.parent), job[1])
for base in ("/tmp", "/dev/shm", "/var/tmp"):
    for entry in entries(base):
        try:
            owner = os.lstat(f"{base}/{entry}").st_uid
        except OSError:
            continue
        job = re.match(r"slurmlet-(\d+)-", entry)
        if job or base == "/dev/shm" and owner >= 1000:
            say("file", f"{base}/{entry} (uid {owner})", job and job[1], owner)
for words, job, uid in processes():
    say("process", words, job, uid)
if control:
    for home in pathlib.Path("/home").iterdir():
        owner = home.stat().st_uid
        cache = home / ".cache/slurmlet/images"
        work = ["names/.*", "images/*/.*", "tmp/*"]
        places = [*home.glob(".slurmlet/*/**/.*"), *(p for w in work for p in cache.glob(w))]
        for path in places:
            if age(path) > 60:
                say("file", str(path), None, owner)
        starts = {}
        for path in home.glob(".slurmlet/*/pods/*/*/*.log"):
            starts.setdefault(path.parent, []).append(path.name)
        for path, logs in starts.items():
            if len(logs) > 2:
                say("file", f"{path}: logs of {len(logs)} starts", None, owner)
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Something of a pod. `job` is None where it names none, `owner` a uid where one matters."""

    kind: str
    text: str
    job: int | None = None
    owner: int | None = None


def parse(text: str) -> list[Trace]:
    """What LOOK prints."""
    items: list[dict[str, Any]] = json.loads(text)
    return [Trace(**item) for item in items]


def left(traces: Collection[Trace], *, jobs: Collection[int], owners: Collection[int]) -> list[str]:
    """What belongs to none of the jobs that are alive; `owners` are these jobs' users.

    What names no job is somebody's who has one, as long as he has one.
    """
    return sorted(
        f"{trace.kind} {trace.text}"
        for trace in traces
        if trace.job not in jobs and not (trace.job is None and trace.owner in owners)
    )
