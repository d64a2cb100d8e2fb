"""`make bench-scheduler`: how fast pods are bound, by slurmlet-scheduler and by kube-scheduler."""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import bed, plane
from tests.bench.figures import replace_section, table
from tests.bench.process import memory, peak, processor, stop
from tests.bench.scheduling import OURS, THEIRS, Case, Limit, Run, rows
from tests.e2e.conftest import ROOT

from slurmlet.common.kube import Api
from slurmlet.controlplane.run import ControlPlane

PAGE = ROOT / "docs" / "figures.md"
SECTION = "bench-scheduler"
SIZES = (100, 1000, 5000)
RATE = 50
KNOWN = 10_000
UNREACHED = Limit(qps=1000, burst=1000)
LIMITS = (Limit(qps=50, burst=100), UNREACHED)
"""The first is kube-scheduler's default; the other is more than two processors allow."""
PARALLEL = 32
"""Requests under way that create pods: more than two processors answer at once."""
LEAST_RATE = 10
"""Pods a second that are waited for; a slower scheduler has failed."""
NAMESPACE, NODE = "bench", "slurm"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
CAPACITY = {"cpu": "200k", "memory": "1Pi", "pods": "110k"}
"""More than all pods ask for: kube-scheduler adds up, Slurm's queue is what it has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """An API server with a namespace and a virtual node."""

    plane: ControlPlane
    directory: Path

    @property
    def kubeconfig(self) -> str:
        return str(self.plane.admin_conf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Another process (tests/bench/bindings.py), which ends by itself and so bounds what waits."""

    process: "subprocess.Popen[str]"
    count: int

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def all(self) -> Mapping[str, float]:
        """Waits until all pods are bound: when each was, as time.monotonic()."""
        lines = iter(self.line, "")
        bound: dict[str, float] = json.loads(next((line for line in lines if "{" in line), "{}"))
        if len(bound) < self.count:
            raise SystemExit(f"{len(bound)} of {self.count} pods were bound in time")
        return bound


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table, or writes it into docs/figures.md."""
    parser = argparse.ArgumentParser(prog="bench-scheduler", description=__doc__)
    parser.add_argument("--seconds", type=int, default=30, help="of steady load (30)")
    parser.add_argument("--rounds", type=int, default=2, help="of what no limit slows down (2)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/figures.md")
    given = parser.parse_args(argv)
    conditions = f"{bed.conditions()}, {given.seconds} s of steady load, {given.rounds} rounds"
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory, made(Path(directory)) as found:
        figures = list(rows(measure(found, seconds=given.seconds, rounds=given.rounds)))
    minutes = (time.monotonic() - begin) / 60
    text = f"{conditions}; the run took {minutes:.0f} minutes.\n\n{table(figures)}\n"
    print(text)
    if given.write:
        PAGE.write_text(replace_section(PAGE.read_text(), name=SECTION, text=text))
    return 0


@contextmanager
def made(directory: Path) -> Iterator[Bed]:
    with plane.running(directory / "plane", programs=["kube-scheduler"]) as control:
        plane.kubectl(control, "create", "namespace", NAMESPACE)
        wait = ("wait", "--for=create", "serviceaccount/default")
        plane.kubectl(control, "-n", NAMESPACE, *wait)
        found = Bed(plane=control, directory=directory)
        asyncio.run(_node(found))
        yield found


def measure(found: Bed, *, seconds: int, rounds: int) -> dict[Case, list[Run]]:
    """Both schedulers take turns, so that whatever else the machine does falls on each."""
    runs: dict[Case, list[Run]] = {}

    def add(case: Case, run: Run) -> None:
        print(f"{case}: {run}", file=sys.stderr, flush=True)
        runs.setdefault(case, []).append(run)

    for limit in LIMITS:
        for size in SIZES:
            for _ in range(rounds if limit == UNREACHED else 1):
                for who in CONTENDERS:
                    case = Case(who=who, limit=limit, pods=size)
                    add(case, burst(found, case))
    for known in (0, KNOWN):
        with pods(found, known, gated=True):
            for _ in range(rounds):
                for who in CONTENDERS:
                    count = RATE * seconds
                    case = Case(who=who, limit=UNREACHED, pods=count, rate=RATE, known=known)
                    add(case, steady(found, case))
    return runs


def burst(found: Bed, case: Case) -> Run:
    """The pods are there before the scheduler starts; times count from its start."""
    with pods(found, case.pods), watching(found, case.pods) as watch:
        begin = time.monotonic()
        with started(found, case) as process:
            watch.line()
            started_with, first = processor(process), time.monotonic()
            bound = watch.all()
            return Run.of(
                bound,
                since=dict.fromkeys(bound, begin),
                start=started_with,
                processor=processor(process) - started_with,
                seconds=time.monotonic() - first,
                rss=memory(process)[1],
                peak=peak(process),
            )


def steady(found: Bed, case: Case) -> Run:
    """Pods come while the scheduler runs; times count from the request that creates each."""
    assert case.rate is not None
    with started(found, case) as process:
        with watching(found, 1) as watch, pods(found, 1):
            watch.all()
        try:
            with watching(found, case.pods) as watch:
                before, begin = processor(process), time.monotonic()
                sent = asyncio.run(_create(found, case.pods, rate=case.rate))
                bound = watch.all()
                return Run.of(
                    bound,
                    since=sent,
                    start=before,
                    processor=processor(process) - before,
                    seconds=time.monotonic() - begin,
                    rss=memory(process)[1],
                    peak=peak(process),
                )
        finally:
            _delete(found, "type=small")


@contextmanager
def pods(found: Bed, count: int, *, gated: bool = False) -> Iterator[None]:
    asyncio.run(_create(found, count, gated=gated))
    try:
        yield
    finally:
        _delete(found, "type=gated" if gated else "type=small")


@contextmanager
def watching(found: Bed, count: int) -> Iterator[Watch]:
    seconds = plane.SECONDS + count / LEAST_RATE
    argv = [sys.executable, "-m", "tests.bench.bindings", found.kubeconfig]
    argv += [NAMESPACE, NODE, str(count), str(seconds)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            watch = Watch(process=process, count=count)
            watch.line()
            yield watch
        finally:
            stop(process)


@contextmanager
def started(found: Bed, case: Case) -> Iterator[int]:
    argv = CONTENDERS[case.who](found, case.limit)
    log = found.directory / f"{case.who}.log"
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as process:
        try:
            yield process.pid
            if process.poll() is not None:
                raise SystemExit(f"{case.who} has ended: {log.read_text()[-2000:]}")
        finally:
            stop(process)


def _ours(found: Bed, limit: Limit) -> list[str]:
    config = found.directory / "slurmlet.toml"
    lines = ["[scheduler]", f'kubeconfig = "{found.plane.config.pki_dir}/scheduler.conf"']
    lines += [f"qps = {limit.qps}", f"burst = {limit.burst}"]
    lines += ["leader_elect = false", "metrics_port = 0"]
    config.write_text("\n".join(lines))
    return [sys.executable, "-m", "slurmlet.scheduler", "--config", str(config)]


def _theirs(found: Bed, limit: Limit) -> list[str]:
    config = found.directory / "kube-scheduler.yaml"
    settings = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {
            "kubeconfig": f"{found.plane.config.pki_dir}/scheduler.conf",
            "qps": limit.qps,
            "burst": limit.burst,
        },
        "profiles": [{"schedulerName": "slurmlet-scheduler"}],
    }
    config.write_text(json.dumps(settings))
    program = str(found.plane.config.bin_dir / "kube-scheduler")
    return [program, f"--config={config}", "--secure-port=0"]


CONTENDERS: Mapping[str, Callable[[Bed, Limit], list[str]]] = {THEIRS: _theirs, OURS: _ours}


async def _create(
    found: Bed, count: int, *, rate: int | None = None, gated: bool = False
) -> Mapping[str, float]:
    """Creates pods, at a rate or as fast as they are taken; when each request was sent."""
    sent: dict[str, float] = {}
    slots = asyncio.Semaphore(PARALLEL)
    begin = time.monotonic()

    async def one(api: Api, number: int) -> None:
        if rate is not None:
            await asyncio.sleep(begin + number / rate - time.monotonic())
        body = _pod(f"{'gated' if gated else 'pod'}-{number}", gated=gated)
        async with slots:
            sent[body["metadata"]["name"]] = time.monotonic()
            await api.create(PODS, body)

    async with await Api.from_kubeconfig(found.kubeconfig) as api, asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(api, number))
    return sent


def _pod(name: str, *, gated: bool) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "schedulerName": "slurmlet-scheduler",
        # Nobody keeps the node Ready here.
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {
                "name": "web",
                "image": "registry.lab:5000/web:1.0",
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
            }
        ],
    }
    if gated:
        spec["schedulingGates"] = [{"name": "example.org/bench"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"type": "gated" if gated else "small"}},
        "spec": spec,
    }


def _delete(found: Bed, selector: str) -> None:
    query = f"gracePeriodSeconds=0&labelSelector={selector.replace('=', '%3D')}"
    plane.kubectl(found.plane, "delete", "--raw", f"{PODS}?{query}")


async def _node(found: Bed) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "labels": {"type": "virtual-kubelet", "slurmlet.io/cluster": "bench"},
        },
        "spec": {"taints": [{"key": "slurmlet.io/slurm", "effect": "NoSchedule"}]},
        "status": {"capacity": CAPACITY, "allocatable": CAPACITY},
    }
    async with await Api.from_kubeconfig(found.kubeconfig) as api:
        await api.create("/api/v1/nodes", body)


if __name__ == "__main__":
    sys.exit(main())
