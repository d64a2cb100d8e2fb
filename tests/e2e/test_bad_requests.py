"""Pods that ask for what they cannot have: each says why and what to do, nobody else is harmed."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from tests.e2e import people, pods
from tests.e2e.conftest import Lab
from tests.e2e.people import QUICK, Bystander

pytestmark = pytest.mark.timeout(180)

NOBODY = "br-nobody"
QUIET_SECONDS = 60.0
"""How long controllers are watched in a namespace without a user."""

CPUS = {"slurmlet.io/cpus-per-task": "20"}
LATE: Mapping[str, Mapping[str, str]] = {
    "br-cpus": CPUS,
    "br-memory": {"slurmlet.io/mem": "64G"},
    "br-gpus": {"slurmlet.io/gres": "gpu:2"},
    "br-partition": {"slurmlet.io/partition": "nowhere"},
    "br-account": {"slurmlet.io/account": "chem"},
    "br-engine": {"slurmlet.io/engine": "docker"},
    "br-flags": {"slurmlet.io/flags": "--uid=0 --wrap=id"},
}
"""Annotations that come past the webhook, which would deny them."""
ANNOTATED: Mapping[str, Mapping[str, str]] = {
    "br-time": {"slurmlet.io/partition": "debug", "slurmlet.io/time": "60"},
    "br-unknown": {"slurmlet.io/tiem": "60"},
}
DENIED: Mapping[str, tuple[Mapping[str, str], str]] = {
    "br-malformed": ({"slurmlet.io/time": "soon"}, "slurmlet.io/time: value 'soon' is not valid"),
    "br-nodes": ({"slurmlet.io/nodes": "2"}, "a pod runs on one node, use 1"),
    "br-shell": ({"slurmlet.io/mem": "1G; id"}, "slurmlet.io/mem: value '1G; id' is not valid"),
    "br-newline": ({"slurmlet.io/qos": "a\nb"}, "value 'a\\nb' is not valid for --qos"),
    "br-flag": ({"slurmlet.io/flags": "--uid=0"}, "option --uid is not allowed; allowed are"),
    "br-option": ({"slurmlet.io/flags": "run me"}, "'run' is no option of sbatch; remove it"),
    "br-control": ({"slurmlet.io/flags": "-t 5\x07"}, "contains a control character; remove it"),
    "br-quotes": ({"slurmlet.io/flags": "-t '5"}, "No closing quotation; check its quotes"),
}
"""Annotations, and what `kubectl create` says of them."""


UNSEEN = {"slurmlet.io/admission": "disabled"}
"""Label of a namespace whose pods no webhook sees."""
TOLERATION = {"key": "slurmlet.io/slurm", "operator": "Exists", "effect": "NoSchedule"}


def template(**spec: Any) -> dict[str, Any]:
    item = pods.manifest("it", "true", tolerations=[TOLERATION], **QUICK, **spec)
    return {"metadata": {"labels": {"app": NOBODY}}, "spec": item["spec"]}


DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "always", "namespace": NOBODY},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": NOBODY}},
        "template": template(restartPolicy="Always"),
    },
}
JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "never", "namespace": NOBODY},
    "spec": {"backoffLimit": 5, "template": {"spec": template(restartPolicy="Never")["spec"]}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """`said` is what kubectl said on its standard error, `since` when the controllers began."""

    bystander: Bystander
    said: str
    denied: str
    since: float


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[World]:
    try:
        bystander = people.start_bystander(lab, "br-bystander")
        people.add_namespaces(lab, [NOBODY], labels=UNSEEN)
        pods.create(lab, DEPLOYMENT, JOB, user="root")
        since = time.monotonic()
        late = [(pods.manifest(name, "true", **QUICK), wish) for name, wish in LATE.items()]
        again = pods.manifest("br-again", "true", **QUICK)
        again["spec"]["restartPolicy"] = "Always"
        pods.create_past_admission(lab, *late, (again, CPUS))
        made = [pods.manifest(n, "true", annotations=a, **QUICK) for n, a in ANNOTATED.items()]
        bad = [pods.manifest(n, "true", annotations=a, **QUICK) for n, (a, _) in DENIED.items()]
        yield World(
            bystander=bystander,
            said=create(lab, made),
            denied=create(lab, bad),
            since=since,
        )
    finally:
        names = [*LATE, *ANNOTATED, *DENIED, "br-again"]
        argv = ["--ignore-not-found", "--wait=false"]
        lab.kubectl("alice", "delete", "pod", *names, *argv, check=False)
        lab.kubectl("bob", "delete", "pod", "br-bystander", *argv, check=False)
        people.remove_namespaces(lab, [NOBODY])


def create(lab: Lab, items: list[dict[str, Any]]) -> str:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    return lab.kubectl("alice", "create", "-f", "-", input=text, check=False).stderr


def says(lab: Lab, name: str, phase: str, *expected: str) -> dict[str, Any]:
    """Wait until a pod of alice says all of this in its status, and the last in an event."""
    key = f"alice/{name}"
    there = people.is_in(key, phase)
    pod = people.wait(lab, key, lambda seen: there(seen) and seen.says(key, *expected), seconds=90)
    print(f"{name}: {people.words(pod)}")
    return pod


@pytest.mark.claim("B20")
@pytest.mark.parametrize(
    ("name", "asked", "has"),
    [
        ("br-cpus", "the pod asks for 20 CPUs", "the largest node has 16 CPUs"),
        ("br-memory", "the pod asks for 65536 MiB of memory", "has 8000 MiB of memory"),
        ("br-gpus", "the pod asks for 2 gpu", "has 0 gpu"),
    ],
)
def test_more_than_any_node_has(lab: Lab, world: World, name: str, asked: str, has: str) -> None:
    pod = says(lab, name, "Failed", "SlurmRejected", asked, has, "ask for less")
    assert pods.job_id(pod) == ""
    world.bystander.unharmed(lab)


@pytest.mark.claim("B21")
def test_what_is_restarted_waits_with_the_reason(lab: Lab, world: World) -> None:
    says(lab, "br-again", "Pending", "SlurmRejected", "20 CPUs", "ask for less")
    world.bystander.unharmed(lab)


@pytest.mark.claim("B22")
def test_more_than_the_partition_allows(lab: Lab, world: World) -> None:
    """Slurm takes such a job and keeps it: the limit may change."""
    told = (
        "will not start as it is: PartitionTimeLimit: it asks for more time than partition debug"
        " allows; ask for less time"
    )

    def said(seen: people.Seen) -> bool:
        lines = "".join(seen.events.get("alice/br-time", ()))
        return told in lines and seen.says("alice/br-time", "SlurmPending", "PartitionTimeLimit")

    pod = people.wait(lab, "alice/br-time", said, seconds=90)
    assert pods.phase(pod) == "Pending"
    print(f"br-time: {people.words(pod)}; {told}")
    world.bystander.unharmed(lab)


@pytest.mark.claim("B23")
def test_what_the_site_does_not_permit_or_have(lab: Lab, world: World) -> None:
    for name, words in {
        "br-partition": "partition 'nowhere' is not permitted to this namespace; use cpu, debug",
        "br-account": "account 'chem' is not permitted to this namespace; use phys",
        "br-engine": "'docker' is not installed here; use crun or apptainer",
    }.items():
        says(lab, name, "Failed", "SlurmRejected", words)
    world.bystander.unharmed(lab)


@pytest.mark.claim("B24")
def test_annotations_that_are_wrong_are_denied_by_name(lab: Lab, world: World) -> None:
    for name, (annotations, words) in DENIED.items():
        assert words in world.denied, f"{name}: {world.denied}"
        assert all(key in world.denied for key in annotations)
    assert pods.get_all(lab, list(DENIED)) == {}
    assert "annotation slurmlet.io/tiem is unknown and has no effect" in world.said
    people.wait(lab, "alice/br-unknown", people.is_in("alice/br-unknown", "Succeeded"))
    world.bystander.unharmed(lab)


@pytest.mark.claim("B25")
def test_what_is_annotated_later_is_refused_by_the_agent(lab: Lab, world: World) -> None:
    """No webhook looks at that: agent and broker read everything again."""
    words = "slurmlet.io/flags: option --uid is not allowed; allowed are"
    pod = says(lab, "br-flags", "Failed", "SlurmRejected", "option --wrap is not allowed", words)
    assert pods.job_id(pod) == ""
    world.bystander.unharmed(lab)


@pytest.mark.claim("B26")
def test_a_namespace_without_a_user(lab: Lab, world: World) -> None:
    """The pod of the Deployment waits, those of the Job fail; both say whom to ask."""
    words = f"namespace '{NOBODY}' is not mapped to a Unix user; ask the administrator"

    def phases(seen: people.Seen) -> set[str]:
        said = [key for key in seen.pods if key.startswith(f"{NOBODY}/") and seen.says(key, words)]
        return {pods.phase(seen.pods[key]) for key in said}

    pods.until(
        lambda: phases(people.look(lab)),
        lambda found: {"Pending", "Failed"} <= found,
        seconds=90,
        what="both phases",
    )
    world.bystander.unharmed(lab)


@pytest.mark.claim("B27")
def test_controllers_do_not_make_pods_again_and_again(lab: Lab, world: World) -> None:
    time.sleep(max(0.0, world.since + QUIET_SECONDS - time.monotonic()))
    own = [pod for key, pod in people.look(lab).pods.items() if key.startswith(f"{NOBODY}/")]
    first = min(born(pod) for pod in own)
    made = Counter(
        pod["metadata"]["ownerReferences"][0]["kind"]
        for pod in own
        if born(pod) - first <= QUIET_SECONDS
    )
    print(f"pods of the first {QUIET_SECONDS:.0f} s: {dict(made)}")
    assert 1 <= made["ReplicaSet"] <= 2
    # The Job's own back-off: 10 s, 20 s, 40 s.
    assert 1 <= made["Job"] <= 4
    world.bystander.unharmed(lab)


def born(pod: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
