"""Looks for planted values: in command lines, and wherever something is kept."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.e2e.conftest import Lab

WATCH = r"""
import json, os, select, signal, socket, struct, sys, time

# Process events of the kernel (connector/cn_proc.h): one for each exec, with its process id.
LISTEN, EXEC = 1, 2
events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11)
events.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)
events.bind((os.getpid(), 1))
body = struct.pack("=IIIIHHI", 1, 1, 0, 0, 4, 0, LISTEN)
events.send(struct.pack("=IHHII", 16 + len(body), 3, 0, 0, os.getpid()) + body)
events.setblocking(False)
seen, counts = set(), {"execs": 0, "read": 0, "lost": 0}

def read(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(1 << 20)
    except OSError:
        return False
    if words:
        seen.add(words)
    return bool(words)

stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
print("ready", flush=True)
swept = 0.0
while not stop:
    select.select([events], [], [], 0.2)
    for _ in range(4096):
        try:
            event = events.recv(4096)
        except BlockingIOError:
            break
        except OSError:
            counts["lost"] += 1
            continue
        if struct.unpack_from("=I", event, 36)[0] == EXEC:
            counts["execs"] += 1
            counts["read"] += read(struct.unpack_from("=I", event, 52)[0])
    # Processes may write over their arguments.
    if time.monotonic() - swept > 2:
        swept = time.monotonic()
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                read(entry)
json.dump({**counts, "lines": sorted(line.decode("latin-1") for line in seen)}, sys.stdout)
"""

SEARCH = r"""
import json, os, stat, subprocess, sys

asked = json.load(sys.stdin)
patterns = {text: label for label, texts in asked["patterns"].items() for text in texts}
kinds = {}
for line in open("/proc/self/mountinfo"):
    words = line.split()
    kinds[words[4]] = words[words.index("-") + 1]
skipped = {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "devtmpfs", "bpf", "tracefs",
           "securityfs", "debugfs", "nsfs", "binfmt_misc", "fusectl", "configfs", "hugetlbfs"}
files = []
for top in asked["roots"]:
    for base, directories, names in os.walk(top):
        directories[:] = [
            d for d in directories
            if os.path.join(base, d) not in asked["without"]
            and kinds.get(os.path.join(base, d)) not in skipped
        ]
        for name in names:
            path = os.path.join(base, name)
            try:
                found = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_ctime >= asked["since"]:
                files.append(path)

def grep(*options, stdin=None, paths=()):
    # Patterns are on a descriptor, not in the arguments that are looked at.
    reader, writer = os.pipe()
    if not os.fork():
        os.close(reader)
        with os.fdopen(writer, "w") as file:
            file.write("\n".join(patterns))
        os._exit(0)
    os.close(writer)
    argv = ["grep", "-aF", *options, f"--file=/dev/fd/{reader}", "--", *paths]
    done = subprocess.run(argv, input=stdin or b"", capture_output=True, pass_fds=[reader],
                          env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
    os.close(reader)
    os.wait()
    return done.stdout.decode(errors="replace").splitlines()

hits = set()
for start in range(0, len(files), 500):
    for path in grep("-l", paths=files[start:start + 500]):
        for text in grep("-oh", paths=[path]):
            hits.add((path, patterns.get(text, "?")))
count = len(files)
if asked["journal"]:
    argv = ["journalctl", "-q", "-a", "-o", "export", f"--since=@{int(asked['since'])}"]
    said = subprocess.run(argv, capture_output=True).stdout
    count += said.count(b"\n\n")
    hits |= {("the journal", patterns.get(text, "?")) for text in grep("-oh", stdin=said)}
json.dump({"count": count, "hits": sorted(hits)}, sys.stdout)
"""


@dataclass(slots=True)
class Seen:
    """Distinct command lines, and of how many execs the command line could still be read."""

    lines: list[str] = field(default_factory=list)
    execs: int = 0
    read: int = 0
    lost: int = 0


@contextmanager
def command_lines() -> Iterator[Seen]:
    """Every command line of this machine, whose kernel tells of each exec; filled in at the end."""
    seen = Seen()
    argv = [sys.executable, "-I", "-c", WATCH]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == b"ready\n"
        # It must read what lives for a millisecond, beside builds; it is soon done each time.
        os.sched_setscheduler(watcher.pid, os.SCHED_FIFO, os.sched_param(1))
        try:
            yield seen
        finally:
            watcher.send_signal(signal.SIGTERM)
            told = json.loads(watcher.stdout.read())
        seen.lines = told["lines"]
        seen.execs, seen.read, seen.lost = told["execs"], told["read"], told["lost"]


def forms(value: bytes) -> list[str]:
    """A value as it is, in hexadecimal, and inside of base64 at each of three offsets."""
    result = [value.hex(), value.hex().upper()]
    if value.isascii() and b"\n" not in value and b"\0" not in value:
        result.append(value.decode())
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + value).decode().rstrip("=")
        # Characters at the edges depend on the neighbours.
        inner = text[-(-offset * 8 // 6) : len(text) - 1]
        result += [inner, inner.replace("+", "-").replace("/", "_")]
    return list(dict.fromkeys(result))


Patterns = Mapping[str, list[str]]
"""What is looked for: name → its forms."""


def patterns_of(values: Mapping[str, bytes]) -> Patterns:
    return {name: forms(value) for name, value in values.items()}


def in_text(text: str, patterns: Patterns) -> set[str]:
    """Names of the values that a text holds."""
    return {name for name, texts in patterns.items() if any(form in text for form in texts)}


def on_node(
    lab: Lab,
    node: str,
    patterns: Patterns,
    *,
    since: float,
    roots: tuple[str, ...] = ("/",),
    without: tuple[str, ...] = (),
    user: str = "root",
    journal: bool = True,
) -> tuple[int, set[tuple[str, str]]]:
    """How many files and lines were looked through, and (place, name) of what was found in files
    that changed since then (seconds since the epoch), and in the journal."""
    asked = {
        "patterns": patterns,
        "since": since,
        "roots": roots,
        "without": without,
        "journal": journal,
    }
    argv = ["python3", "-I", "-c", SEARCH]
    done = lab.run(node, argv, user=user, input=json.dumps(asked), timeout=300)
    told = json.loads(done.stdout)
    return int(told["count"]), {(place, name) for place, name in told["hits"]}


def slurm_says(lab: Lab, *, user: str) -> str:
    """All that Slurm tells a user of jobs: every field of every command."""
    fields = lab.run("ctl", ["timeout", "30", "sacct", "--helpformat"]).stdout.split()
    questions = [
        ["scontrol", "show", "job", "-dd"],
        ["scontrol", "show", "step"],
        ["squeue", "-a", "-t", "all", "-o", "%all"],
        ["sacct", "-a", "-D", "-P", "-S", "now-1hours", "-o", ",".join(fields)],
    ]
    return "".join(
        lab.run("ctl", ["timeout", "60", *argv], user=user, timeout=90).stdout for argv in questions
    )


def spool_of(lab: Lab) -> list[str]:
    """The directories in which Slurm's daemons keep jobs for themselves."""
    text = lab.run("ctl", ["timeout", "30", "scontrol", "show", "config"]).stdout
    return re.findall(r"^(?:StateSaveLocation|SlurmdSpoolDir)\s*=\s*(\S+)", text, re.MULTILINE)
