"""A compute node with one pod that runs: job 12 of uid 2001, pod alice/web, container main."""

import json
from typing import Any

from .fakeos import BOOT, JOB, JOBS, UID, FakeOS, Node, directory, namespace

ROOT = f"{JOBS}/{JOB}"
PID = 4711
START = 987654
PINS = {"user": 101, "ipc": 102, "uts": 103}
PROC = f"/proc/{PID}"
USER = f"{ROOT}/ns/user"


def record(**changes: Any) -> bytes:
    data = {
        "version": 1,
        "job": JOB,
        "uid": UID,
        "gid": UID,
        "boot": BOOT,
        "namespaces": {kind: {"dev": 4, "ino": inode} for kind, inode in PINS.items()},
    }
    return json.dumps(data | changes).encode()


def hint(**changes: Any) -> bytes:
    main = {"pid": PID, "start": START, "directory": "/srv", "environment": "main.env"}
    data = {
        "version": 1,
        "namespace": "alice",
        "pod": "web",
        "default": "main",
        "containers": {"main": main},
    }
    return json.dumps(data | changes).encode()


def stat_line(start: int = START, name: str = "sh (x) y") -> bytes:
    fields = " ".join(["S", *["0"] * 18, str(start), "0", "0"])
    return f"{PID} ({name}) {fields}\n".encode()


def status(
    bounding: str = "00000000a80425fb", privileges: int = 1, *, filters: int | None = 0
) -> bytes:
    """`filters`: None is a kernel that does not count them, of a process that has some."""
    counted = f"Seccomp:\t{2 if filters else 0}\nSeccomp_filters:\t{filters}\n"
    seccomp = "Seccomp:\t2\n" if filters is None else counted
    return f"Name:\tsh\nNoNewPrivs:\t{privileges}\nCapBnd:\t{bounding}\n{seccomp}".encode()


def running_pod() -> FakeOS:
    nodes = {
        "/proc/sys/kernel/random/boot_id": Node(content=f"{BOOT}\n".encode()),
        "/proc/self/status": Node(content=status()),
        JOBS: directory(),
        ROOT: directory(),
        f"{ROOT}/record.json": Node(content=record()),
        f"{ROOT}/ns": directory(),
        f"{ROOT}/pod": directory(uid=UID, mode=0o700),
        f"{ROOT}/pod/containers.json": Node(content=hint(), uid=UID),
        f"{ROOT}/pod/main.env": Node(content=b"A=1\0B=2\0", uid=UID),
        PROC: directory(uid=UID),
        f"{PROC}/stat": Node(content=stat_line()),
        f"{PROC}/status": Node(content=status()),
        f"{PROC}/cgroup": Node(content=b"3:memory:/slurm_c1/uid_2001/job_12/step_batch/task_0\n"),
        f"{PROC}/root": directory(uid=UID),
        f"{PROC}/ns/user": namespace(PINS["user"], parent="/init"),
        f"{PROC}/ns/pid": namespace(201, owner=USER),
        f"{PROC}/ns/mnt": namespace(202, owner=USER),
    }
    for kind, inode in PINS.items():
        nodes[f"{ROOT}/ns/{kind}"] = namespace(inode)
    return FakeOS(nodes=nodes)
