"""The judgement that webhook and agent share."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.contracts.test_selection import affinity, requirement

from slurmlet.contracts.admission import Verdict, judge
from slurmlet.contracts.identity import Identity, IdentityMap
from slurmlet.contracts.policy import NOTHING_KNOWN, NodeSize, Snapshot
from slurmlet.contracts.request import RequestPolicy

SITE = Snapshot(
    identities=IdentityMap(
        namespaces={
            "alice": Identity(user="alice", accounts=("phys",), partitions=("cpu", "gpu")),
            "free": Identity(user="free"),
        }
    ),
    sizes={
        "cpu": (NodeSize(cpus=16, memory=8000),),
        "gpu": (NodeSize(cpus=8, memory=4000, gres={"gpu": 4}),),
        "huge": (NodeSize(cpus=512, memory=4_000_000),),
    },
    engines=("crun", "apptainer"),
)


def decided(
    annotations: dict[str, str] | None = None,
    *,
    policy: Snapshot = SITE,
    namespace: str = "alice",
    template: bool = False,
    resources: dict[str, Any] | None = None,
    **spec: Any,
) -> Verdict:
    containers = [{"name": "web", "resources": resources or {}}]
    return judge(
        {"annotations": annotations} if annotations is not None else {},
        {"containers": containers, **spec},
        namespace=namespace,
        policy=policy,
        template=template,
    )


def test_a_plain_pod_runs_as_its_namespaces_user() -> None:
    assert decided() == Verdict(
        options={"cpus-per-task": "1", "mem": "320M"},
        partitions=("cpu",),
        user="alice",
        engine="crun",
    )


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = decided(
        {"slurmlet.io/time": "soon", "slurmlet.io/engine": "docker", "slurmlet.io/account": "chem"},
        hostPID=True,
        resources=large(17),
    )
    assert len(found.errors) == 5
    assert found.user == "alice"


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"slurmlet.io/engine": "docker"}, "annotation slurmlet.io/engine: 'docker' is not"),
        ({"ns.slurmlet.io/engine": "docker"}, "annotation ns.slurmlet.io/engine: 'docker' is"),
        ({"slurmlet.io/init": "no"}, "annotation slurmlet.io/init: 'no' is no choice; use true"),
        (
            {"slurmlet.io/account": "chem"},
            "annotation slurmlet.io/account: account 'chem' is not permitted to this namespace",
        ),
        (
            {"slurmlet.io/partition": "huge"},
            "annotation slurmlet.io/partition: partition 'huge' is not permitted to this namespace",
        ),
    ],
)
def test_what_the_site_does_not_offer(annotations: dict[str, str], said: str) -> None:
    (error,) = decided(annotations).errors
    assert error.startswith(said)


def test_a_pods_engine_is_its_own_choice_then_its_namespaces_then_the_sites() -> None:
    default = {"ns.slurmlet.io/engine": "apptainer"}
    assert decided().engine == "crun"
    assert decided(default).engine == "apptainer"
    assert decided(default | {"slurmlet.io/engine": "crun"}).engine == "crun"


@pytest.mark.parametrize(
    ("annotations", "spec", "field"),
    [
        ({"slurmlet.io/flags": "-p huge"}, {}, "annotation slurmlet.io/flags"),
        ({"slurm.hpk.io/flags": "-p huge"}, {}, "annotation slurm.hpk.io/flags"),
        ({"ns.slurmlet.io/partition": "huge"}, {}, "annotation ns.slurmlet.io/partition"),
        (
            {"ns.slurmlet.io/partition": "cpu"},
            {"nodeSelector": {"slurmlet.io/partition": "huge"}},
            "spec.nodeSelector[slurmlet.io/partition]",
        ),
        (
            {"slurmlet.io/partition": "huge"},
            {"nodeSelector": {"slurmlet.io/partition": "cpu"}},
            "annotation slurmlet.io/partition",
        ),
    ],
)
def test_what_is_not_permitted_is_named_by_where_it_is_from(
    annotations: dict[str, str], spec: dict[str, Any], field: str
) -> None:
    (error,) = decided(annotations, **spec).errors
    assert error == f"{field}: partition 'huge' is not permitted to this namespace; use cpu, gpu"


def test_the_node_and_the_lock_that_are_not_permitted_are_named() -> None:
    on_node = judge({}, {}, namespace="alice", policy=SITE, partition="huge")
    assert on_node.errors[0].startswith("spec.nodeName: partition 'huge' is not permitted")
    policy = replace(SITE, request=RequestPolicy(locks={"account": "chem"}))
    (error,) = decided({"ns.slurmlet.io/account": "phys"}, policy=policy).errors
    assert error.startswith("request.locks.account (the administrator's): account 'chem' is not")


@pytest.mark.parametrize("own", [{}, {"slurmlet.io/time": "5"}])
def test_a_default_of_the_site_that_a_namespace_may_not_have_is_left_out(
    own: dict[str, str],
) -> None:
    """Broker and Slurm then take the first that the map lists."""
    request = RequestPolicy(options={"account": "general", "partition": "cpu,huge", "qos": "low"})
    found = decided(own, policy=replace(SITE, request=request))
    assert found.errors == ()
    assert "account" not in found.options
    assert "partition" not in found.options
    assert found.partitions == ("cpu",)
    assert found.options["qos"] == "low", "not restricted"
    free = decided(own, policy=replace(SITE, request=request), namespace="free")
    assert free.options["account"] == "general"


def test_an_option_that_the_site_locks_is_never_left_out() -> None:
    policy = replace(SITE, request=RequestPolicy(locks={"account": "general"}))
    assert "account 'general' is not permitted" in "".join(decided(policy=policy).errors)


def test_a_namespace_without_a_user() -> None:
    found = decided(namespace="eve")
    assert "namespace 'eve' is not mapped to a Unix user" in found.errors[0]
    assert found.user == ""


def large(cpus: int, gpus: int = 0) -> dict[str, Any]:
    return {"requests": {"cpu": str(cpus)}, "limits": {"nvidia.com/gpu": gpus} if gpus else {}}


@pytest.mark.parametrize(
    ("annotations", "resources", "said"),
    [
        (
            {},
            large(17),
            "17 CPUs (its overhead included), the largest node of partition cpu has 16",
        ),
        ({}, large(1, 1), "1 gpu (its overhead included), the largest node of partition cpu has 0"),
        (
            {"slurmlet.io/partition": "gpu"},
            large(9),
            "the largest node of partition gpu has 8 CPUs",
        ),
        ({"slurmlet.io/partition": "gpu"}, large(1, 5), "the largest node of partition gpu has 4"),
        ({"slurmlet.io/partition": "cpu,gpu"}, large(17), "of partition cpu,gpu has 16 CPUs"),
        ({"ns.slurmlet.io/partition": "gpu"}, large(9), "the largest node of partition gpu has 8"),
    ],
)
def test_a_pod_larger_than_any_node_that_it_may_have(
    annotations: dict[str, str], resources: dict[str, Any], said: str
) -> None:
    (error,) = decided(annotations, resources=resources).errors
    assert said in error


@pytest.mark.parametrize(
    ("annotations", "resources", "fields"),
    [
        ({}, large(17), "spec.containers[*].resources"),
        ({"slurmlet.io/mem": "1G"}, large(17), "spec.containers[*].resources"),
        ({"slurmlet.io/cpus-per-task": "17"}, large(1), "annotation slurmlet.io/cpus-per-task"),
        ({"slurmlet.io/flags": "--mem=9000"}, large(1), "annotation slurmlet.io/flags"),
        ({"ns.slurmlet.io/gres": "x"}, large(1), "annotation ns.slurmlet.io/gres"),
        ({"ns.slurmlet.io/cpus-per-task": "2"}, large(17), "spec.containers[*].resources"),
        (
            {"slurmlet.io/gpus": "1"},
            large(17),
            "spec.containers[*].resources, annotation slurmlet.io/gpus",
        ),
    ],
)
def test_what_is_too_large_is_named_by_where_it_is_from(
    annotations: dict[str, str], resources: dict[str, Any], fields: str
) -> None:
    (error,) = decided(annotations, resources=resources).errors
    assert error.startswith(f"{fields}: the pod asks for ")


def test_a_namespace_that_may_go_anywhere_is_measured_by_the_largest() -> None:
    assert decided(namespace="free", resources=large(512)).errors == ()
    (error,) = decided(namespace="free", resources=large(513)).errors
    assert "the largest node has 512 CPUs" in error


def test_a_templates_pods_may_yet_be_given_another_partition() -> None:
    assert decided(resources=large(1, 4), template=True).errors == ()
    (error,) = decided(resources=large(17), template=True).errors
    assert "of partition cpu,gpu has 16 CPUs" in error


def test_what_is_not_known_refuses_nothing() -> None:
    wish = {"slurmlet.io/engine": "docker", "slurmlet.io/account": "chem"}
    assert decided(wish, policy=NOTHING_KNOWN, namespace="eve", resources=large(9999)) == Verdict(
        options={"cpus-per-task": "9999", "mem": "320M", "account": "chem"}, engine="docker"
    )
    assert decided(resources=large(9999), policy=replace(SITE, sizes={})).errors == ()


def test_metadata_may_say_nothing() -> None:
    assert judge({}, {"containers": None}, namespace="alice", policy=SITE).errors == ()


def chosen(operator: str, *values: str) -> dict[str, Any]:
    return affinity([requirement("slurmlet.io/partition", operator, *values)])


def test_who_chooses_a_partitions_node_by_affinity_is_compared_with_that_partition() -> None:
    large = {"requests": {"memory": "5000Mi"}}
    gpu = decided(affinity=chosen("In", "gpu"), resources=large)
    assert "the largest node of partition gpu has 4000 MiB" in "".join(gpu.errors)
    assert decided(affinity=chosen("In", "gpu", "cpu"), resources=large).errors == ()
    assert decided(affinity=chosen("NotIn", "gpu"), resources=large).errors == ()
    assert decided(affinity=chosen("In", "gpu")).partitions == ("gpu",)
    open_too = affinity(
        [requirement("slurmlet.io/partition", "In", "gpu")],
        [requirement("kubernetes.io/hostname", "In", "slurm")],
    )
    assert decided(affinity=open_too, resources=large).errors == ()


@pytest.mark.claim("V11")
def test_a_pod_is_too_large_for_the_partition_of_its_node() -> None:
    found = judge(
        {},
        {"containers": [{"name": "web", "resources": {"requests": {"cpu": "9"}}}]},
        namespace="free",
        policy=SITE,
        partition="gpu",
    )
    assert "9 CPUs" in found.errors[0]
    assert "the largest node of partition gpu has 8 CPUs" in found.errors[0]
    assert found.options["partition"] == "gpu"
