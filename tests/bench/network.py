"""Pods' network beside the bare nodes', between the same processors of the same jobs."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.bench.bed import Bed, Pod
from tests.bench.figures import Figure, median, number
from tests.e2e import pods
from tests.e2e.conftest import ROOT, Lab

SECONDS = 3
"""Of one transfer."""
ROUNDS = 3
IPERF, NETPERF = 5301, 12901
SHARE_AIM = 0.95
ADDRESSES = {"c1": "10.77.0.11", "c2": "10.77.0.12"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """From a pod's job to another's: in the pods' networks, or in their nodes'."""

    client: Pod
    server: Pod
    bare: bool

    def step(self, pod: Pod) -> list[str]:
        """srun's words for host programs in the one network or the other."""
        words = ["srun", "--overlap", f"--jobid={pod.job}"]
        # Host tools: the pod's network, without its files and processes.
        return words if self.bare else [*words, pod.option, "--k8s-pod-ns=-mnt,-pid"]

    @property
    def address(self) -> str:
        return ADDRESSES[self.server.node] if self.bare else self.server.address


def figures(bed: Bed) -> list[Figure]:
    if bed.here.address in ADDRESSES.values():
        return [Figure(what="pod to pod", value="pods have no network of their own here")]
    rows: list[Figure] = []
    for what, server in (("on one node", bed.neighbour), ("across nodes", bed.remote)):
        ways = [Way(client=bed.here, server=server, bare=bare) for bare in (True, False)]
        rows += _compare(bed.lab, what, ways)
    return rows


def _compare(lab: Lab, what: str, ways: Sequence[Way]) -> list[Figure]:
    throughput: dict[bool, list[float]] = {True: [], False: []}
    latency: dict[bool, list[float]] = {True: [], False: []}
    with ExitStack() as stack:
        for way in ways:
            stack.enter_context(_served(lab, way))
        for turn in range(ROUNDS):
            for way in ways if turn % 2 == 0 else reversed(ways):
                throughput[way.bare].append(_gigabits(lab, way))
                latency[way.bare].append(_microseconds(lab, way))
    bare, pod = (median(throughput[kind]) for kind in (True, False))
    return [
        Figure(
            what=f"iperf3 {what}: bare, pod to pod",
            value=f"{number(bare)} Gbit/s, {number(pod)} Gbit/s: {pod / bare:.0%}",
            aim=f"≥ {SHARE_AIM:.0%}",
            met=pod >= SHARE_AIM * bare,
            cause=_CAUSES[what],
        ),
        Figure(
            what=f"netperf TCP_RR {what}: bare, pod to pod",
            value=f"p50 {number(median(latency[True]))} µs, {number(median(latency[False]))} µs",
        ),
    ]


_CAUSES = {
    "on one node": "bare is the loopback here, without devices, routes or filters",
    "across nodes": "two more devices and the source check, on processors that the two nodes share",
}


@contextmanager
def _served(lab: Lab, way: Way) -> Iterator[None]:
    """iperf3 and netserver as one step of the server's job; they end with it."""
    script = f"netserver -D -p {NETPERF} >/dev/null & exec iperf3 -s -p {IPERF}"
    argv = ["timeout", "300", *way.step(way.server), "sh", "-c", script]
    server = subprocess.Popen(
        [str(ROOT / "lab"), "exec", "ctl", "--name", lab.name, "--user", "alice", "--", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ask = f"iperf3 -c {way.address} -p {IPERF} -n 1"
        ask += f" && netperf -H {way.address} -p {NETPERF} -l 1"
        pods.until(
            lambda: _client(lab, way, ["sh", "-c", ask], check=False).returncode,
            lambda code: code == 0,
            seconds=30,
            what=f"iperf3 and netserver at {way.address}",
        )
        yield
    finally:
        # srun ends its step.
        server.terminate()
        server.wait(timeout=30)


def _client(
    lab: Lab, way: Way, words: Sequence[str], *, check: bool = True
) -> "subprocess.CompletedProcess[str]":
    argv = ["timeout", "60", *way.step(way.client), *words]
    return lab.run("ctl", argv, user="alice", timeout=90, check=check)


def _gigabits(lab: Lab, way: Way) -> float:
    words = ["iperf3", "-c", way.address, "-p", str(IPERF), "-t", str(SECONDS), "-O", "1", "-J"]
    end = json.loads(_client(lab, way, words).stdout)["end"]
    return float(end["sum_received"]["bits_per_second"]) / 1e9


def _microseconds(lab: Lab, way: Way) -> float:
    words = ["netperf", "-H", way.address, "-p", str(NETPERF), "-t", "TCP_RR", "-l", "2", "-P", "0"]
    return float(_client(lab, way, [*words, "--", "-o", "p50_latency"]).stdout)
