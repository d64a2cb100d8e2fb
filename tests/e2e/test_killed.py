"""Agent and broker killed -9 under running and queued pods."""

import re

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab

pytestmark = pytest.mark.disruptive
RUNNING = 10
QUEUED = 10
UNITS = ["slurmlet-kubelet", "slurmlet-broker"]
# Five such pods fill one of the two nodes of 16 CPUs, so that ten run and ten wait.
CPUS = "3"
# Long enough for all ten to start before the first one ends.
SLEEP = "sleep 40"


def states(lab: Lab, jobs: list[str]) -> list[str]:
    argv = ["timeout", "30", "squeue", "-h", "-t", "all", "-j", ",".join(jobs), "-o", "%T"]
    return lab.run("ctl", argv).stdout.split()


@pytest.mark.claim("F7")
@pytest.mark.timeout(600)
def test_no_job_is_lost_and_none_is_made_twice(lab: Lab) -> None:
    names = [f"many-{index}" for index in range(RUNNING + QUEUED)]
    resources = {"requests": {"cpu": CPUS, "memory": "64Mi"}}
    wanted = [
        pods.manifest(name, "sh", "-c", SLEEP, container={"resources": resources}) for name in names
    ]
    pods.create(lab, *wanted)
    try:
        before = pods.until(
            lambda: {n: pods.job_id(p) for n, p in pods.get_all(lab, names).items()},
            lambda ids: len(ids) == len(names) and all(ids.values()),
            seconds=120,
            what="twenty job ids",
        )
        jobs = list(before.values())
        assert len(set(jobs)) == len(names)
        pods.until(
            lambda: states(lab, jobs),
            lambda seen: seen.count("RUNNING") == RUNNING and seen.count("PENDING") == QUEUED,
            seconds=60,
            what="ten running and ten queued jobs",
        )

        for unit in UNITS:
            lab.run("ctl", ["systemctl", "kill", "--signal=KILL", unit], check=False)

        done = pods.until(
            lambda: pods.get_all(lab, names),
            lambda found: all(pods.phase(pod) == "Succeeded" for pod in found.values()),
            seconds=240,
            what="every pod's end",
        )
        assert {name: pods.job_id(pod) for name, pod in done.items()} == before
        argv = ["timeout", "30", "sacct", "-X", "-n", "-P", "-u", "alice", "-S", "now-1hours"]
        rows = lab.run("ctl", [*argv, "-o", "JobID,JobName"]).stdout.splitlines()
        own = [row.split("|") for row in rows if re.search(r"/alice/many-\d+$", row)]
        fresh = {pod["metadata"]["uid"][:8] for pod in done.values()}
        assert sorted(job for job, name in own if name[:8] in fresh) == sorted(jobs)
    finally:
        pods.delete(lab, *names)
