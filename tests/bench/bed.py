"""The lab with pods of alice in it, and how to measure there."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import pods
from tests.e2e.conftest import UP_SECONDS, Lab, lab_command

PROBE = (Path(__file__).parent / "probe.py").read_text()
SECONDS = 600
"""For one measurement: a thousand joins take two minutes, on a busy machine some more."""

Samples = Mapping[str, Sequence[float]]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of alice that runs; `address` is the node's where pods have no network."""

    name: str
    node: str
    job: str
    uid: str
    address: str

    @property
    def option(self) -> str:
        return f"--k8s-pod=alice/{self.name}"

    @property
    def sandbox(self) -> str:
        return f"/run/slurmlet/jobs/{self.job}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """Two pods on c1 and one on c2; `rounds` of each measurement, `joins` in a row."""

    lab: Lab
    here: Pod
    neighbour: Pod
    remote: Pod
    rounds: int
    joins: int

    def measure(
        self,
        node: str,
        commands: Sequence[Mapping[str, Any]],
        *,
        user: str = "alice",
        rounds: int | None = None,
        warmup: int = 2,
        rotate: bool = True,
        within: Sequence[str] = (),
    ) -> Samples:
        """Milliseconds of commands (tests/bench/probe.py) on a node; `within` starts the probe."""
        wanted = {
            "rounds": rounds or self.rounds,
            "warmup": warmup,
            "rotate": rotate,
            "commands": list(commands),
        }
        argv = [*within, "python3", "-c", PROBE, json.dumps(wanted)]
        done = self.lab.run(node, argv, user=user, timeout=SECONDS)
        samples: dict[str, list[float]] = json.loads(done.stdout)
        return samples


@contextmanager
def furnished(name: str, *, rounds: int, joins: int, say: Say) -> Iterator[Bed]:
    """The lab, up to date, with the pods; they go at the end and the lab stays."""
    say("bringing the lab up")
    up = lab_command("up", "--name", name, timeout=UP_SECONDS)
    if up.returncode != 0:
        raise SystemExit(f"{up.stdout}\nthe lab {name} does not come up")
    lab = Lab(name=name)
    say("starting pods")
    places = {"bench-here": "c1", "bench-neighbour": "c1", "bench-remote": "c2"}
    pods.delete(lab, *places)
    try:
        pods.create(lab, *(_manifest(pod, node=node) for pod, node in places.items()))
        here, neighbour, remote = (_running(lab, pod, node=places[pod]) for pod in places)
        yield Bed(
            lab=lab, here=here, neighbour=neighbour, remote=remote, rounds=rounds, joins=joins
        )
    finally:
        pods.delete(lab, *places)


def conditions() -> str:
    """What else kept the machine busy: the load of the last minutes, before anything starts."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} processors, load before the run {load}"


def _manifest(name: str, *, node: str) -> dict[str, Any]:
    other = {"c1": "c2", "c2": "c1"}[node]
    return pods.manifest(
        name,
        *("sh", "-c", "trap exit TERM; while :; do sleep 60 & wait; done"),
        annotations={"slurmlet.io/flags": f"--exclude={other}"},
        # Both of the machine's processors: else two ends of a connection may share one.
        container={"resources": {"requests": {"cpu": "2", "memory": "256Mi"}}},
    )


def _running(lab: Lab, name: str, *, node: str) -> Pod:
    found = pods.wait_for_phase(lab, name, "Running")
    return Pod(
        name=name,
        node=node,
        job=pods.job_id(found),
        uid=found["metadata"]["uid"],
        address=found["status"]["podIP"],
    )
