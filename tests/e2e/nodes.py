"""What slurmlet leaves on a compute node, as the node itself sees it."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.e2e import pods
from tests.e2e.conftest import Lab

LOOK = r"""
import json, os, pathlib, pwd, re, subprocess

def out(*argv):
    return subprocess.run(argv, capture_output=True, text=True).stdout

def entries(path):
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []

def processes():
    for entry in entries("/proc"):
        if not entry.isdecimal():
            continue
        base = pathlib.Path("/proc", entry)
        try:
            uid = base.stat().st_uid
            words = (base / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            group = (base / "cgroup").read_text()
        except OSError:
            continue
        # What holds an external step stays when its slurmstepd is killed, also without slurmlet.
        if uid == 0 and words.strip() == "sleep 100000000":
            continue
        if uid >= 1000 and uid != 65534 or "slurmlet" in words or re.search(r"/job_\d+", group):
            yield f"uid {uid}: {words[:120].strip()}"

def links():
    found = json.loads(out("ip", "-j", "-d", "link") or "[]")
    return [x["ifname"] for x in found if x.get("linkinfo", {}).get("info_kind") == "veth"]

def rules():
    # Elements of sets come one to a line; counters count.
    text = re.sub(r"counter packets \d+ bytes \d+", "counter", out("nft", "list", "ruleset"))
    return sorted({e.strip() for line in text.splitlines() for e in line.split(",") if e.strip()})

mounts = [line.split() for line in open("/proc/1/mountinfo")]
print(json.dumps({
    "sandbox": entries("/run/slurmlet/jobs"),
    "mount": [m[4] for m in mounts if "slurmlet" in m[4] or m[3].startswith("net:")],
    "veth": links(),
    "rule": rules(),
    "route": out("ip", "route").splitlines(),
    "process": sorted(processes()),
    "lease": [str(p) for p in pathlib.Path("/run/slurmlet").rglob("*")
              if re.search(r"/cni/.*/\d+\.\d+\.\d+\.\d+$", str(p))],
}))
"""


@dataclass(frozen=True, slots=True)
class Traces:
    """Kind → what of it is there: sandbox, mount, veth, rule, route, process, lease."""

    found: Mapping[str, frozenset[str]]

    def beyond(self, other: "Traces", *, without: frozenset[str] = frozenset()) -> list[str]:
        """What is here and not in `other`, each with its kind before it."""
        return sorted(
            f"{kind}: {item}"
            for kind, items in self.found.items()
            if kind not in without
            for item in items - other.found.get(kind, frozenset())
        )


def look(lab: Lab, node: str) -> Traces:
    found = json.loads(lab.run(node, ["python3", "-I", "-c", LOOK]).stdout)
    return Traces({kind: frozenset(items) for kind, items in found.items()})


def state(lab: Lab, node: str) -> str:
    """Slurm's word for the node, such as idle or drained*."""
    argv = ["timeout", "30", "sinfo", "-h", "-n", node, "-p", "cpu", "-o", "%t"]
    return lab.run("ctl", argv, check=False).stdout.strip()


def usable(lab: Lab) -> bool:
    """No node is drained or down, whatever jobs do there or are planned for it."""
    out = lab.run("ctl", ["timeout", "30", "sinfo", "-h", "-N", "-o", "%t"]).stdout.split()
    return all(word.rstrip("+-") in ("idle", "mix", "alloc", "comp", "plnd") for word in out)


def wait_idle(lab: Lab, node: str, *, seconds: float = 120) -> None:
    """Until no job is on the node, which answers and was not drained."""
    seen = pods.until(
        lambda: state(lab, node),
        lambda word: word == "idle" or word.startswith("drain"),
        seconds=seconds,
        what=f"{node} without a job",
    )
    reason = lab.run("ctl", ["timeout", "30", "sinfo", "-h", "-n", node, "-o", "%E"], check=False)
    assert seen == "idle", f"{node} is {seen}: {reason.stdout}"


def said(lab: Lab, node: str, argv: Sequence[str]) -> str:
    """What a command prints on a node that reboots, or an empty text: what enters a PID namespace
    that is going down may never end."""
    try:
        return lab.run(node, argv, timeout=10, check=False).stdout
    except subprocess.TimeoutExpired:
        return ""


def reboot(lab: Lab, node: str) -> None:
    """Without a word to anyone, as when the power fails."""
    boot = ["cat", "/proc/sys/kernel/random/boot_id"]
    before = lab.run(node, boot).stdout
    said(lab, node, ["systemctl", "reboot", "--force", "--force"])
    pods.until(
        lambda: said(lab, node, boot),
        lambda now: now not in ("", before),
        seconds=60,
        what="another boot",
    )
    # The lab's network namespaces outlive their nodes; a node's rules do not.
    lab.run(node, ["nft", "flush", "ruleset"])
