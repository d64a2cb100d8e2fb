"""Manifests written for other systems between Kubernetes and Slurm, as they stand."""

from collections.abc import Iterator, Mapping

import pytest
from tests.e2e import pods
from tests.e2e.conftest import ROOT, Lab

CLIENT = "rivals-client"
ASKED: Mapping[str, str] = {
    "hpk": "1 128M 5:00 cpu",
    "knoc": "2 200M",
    "interlink": "1 128M 28:00",
    "slurm-bridge": "2 200M 30:00 cpu",
}
"""What squeue shows of the job: processors, memory, and where it was said time and partition."""


@pytest.fixture(scope="module")
def applied(lab: Lab) -> Iterator[Mapping[str, str]]:
    """What kubectl printed for each example; their pods run."""
    mark = "slurmlet.io/example in (hpk, knoc, interlink, slurm-bridge)"
    own = ("delete", "service,pod", "-l", mark, "--timeout=120s")
    lab.kubectl("alice", *own)
    pods.delete(lab, CLIENT)
    sleep = "trap 'exit 0' TERM; while :; do sleep 0.5; done"
    pods.create(lab, pods.manifest(CLIENT, "sh", "-c", sleep))
    said = {}
    for name in ASKED:
        text = (ROOT / "examples" / f"{name}.yaml").read_text()
        done = lab.kubectl("alice", "apply", "-f", "-", input=text)
        said[name] = done.stdout + done.stderr
    for name in (CLIENT, *ASKED):
        lab.kubectl("alice", "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=100s")
    yield said
    lab.kubectl("alice", *own)
    pods.delete(lab, CLIENT)


@pytest.mark.claim("W18")
@pytest.mark.parametrize("name", ASKED)
def test_a_manifest_of_another_system_runs_as_it_is(
    lab: Lab, applied: Mapping[str, str], name: str
) -> None:
    assert "deprecated" in applied[name]
    ask = ["timeout", "60", "srun", f"--k8s-pod=alice/{CLIENT}", "wget", "-qO-", f"http://{name}"]
    answer = pods.until(
        lambda: lab.run("ctl", ask, user="alice", check=False, timeout=90).stdout,
        bool,
        seconds=60,
        what=f"{name} by the Service's name",
    )
    assert answer == "Hello from a pod that is a Slurm job.\n"
    job = pods.job_id(pods.get(lab, name))
    shown = lab.run("ctl", ["timeout", "30", "squeue", "-h", "-j", job, "-o", "%C %m %l %P"])
    wanted = ASKED[name].split()
    assert shown.stdout.split()[: len(wanted)] == wanted
