"""What the author of a pod is told, word for word, and what is told to nobody."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.tools.reasons import claimed

from slurmlet.scheduler.verdict import verdict

Make = Callable[..., dict[str, Any]]
TOLERATING = [{"operator": "Exists"}]


def asking(make: Make, *, annotations: dict[str, str] | None = None, **requests: str) -> Any:
    """A pod with one container; `_` stands for what a keyword cannot have."""
    names = {
        "gpu": "nvidia.com/gpu",
        "amd": "amd.com/gpu",
        "foo": "example.com/foo",
        "pages": "hugepages-2Mi",
    }
    resources = {"requests": {names.get(key, key): value for key, value in requests.items()}}
    made = make(containers=[{"name": "main", "resources": resources}])
    made["metadata"]["annotations"] = annotations or {}
    return made


def told(pod: Any, *nodes: Any, running: dict[str, int] | None = None) -> str:
    found = verdict(pod, nodes, running=running)
    assert found.node is None
    return found.reason


@pytest.mark.claim("K2")
def test_the_toleration_that_the_webhook_adds(pod: Make, node: Make) -> None:
    assert told(pod(tolerations=[]), node()) == claimed("K2", nodes=1, count=1)


@pytest.mark.claim("K3")
@pytest.mark.parametrize(
    ("taint", "shown", "toleration"),
    [
        (
            {"key": "gpu", "value": "true", "effect": "NoSchedule"},
            "gpu=true:NoSchedule",
            '{"key": "gpu", "value": "true", "effect": "NoSchedule"}',
        ),
        (
            {"key": "gpu", "effect": "NoExecute"},
            "gpu:NoExecute",
            '{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}',
        ),
    ],
)
def test_a_toleration_that_can_be_pasted(
    pod: Make, node: Make, taint: dict[str, str], shown: str, toleration: str
) -> None:
    tainted = node(taints=[taint])
    said = told(pod(), tainted)
    assert said == claimed("K3", nodes=1, count=1, taint=shown, toleration=toleration)
    assert verdict(pod(tolerations=[json.loads(toleration)]), [tainted]).node == "slurm"


@pytest.mark.claim("K3")
def test_all_taints_are_said_at_once(pod: Make, node: Make) -> None:
    said = told(pod(), node(taints=[{"key": key, "effect": "NoExecute"} for key in "ab"]))
    assert "(1) taint a:NoExecute: " in said
    assert "(2) taint b:NoExecute: " in said
    assert "1 node(s) had untolerated taint(s)." in said


def tainted(node: Make, key: str) -> dict[str, Any]:
    return node(taints=[{"key": key, "effect": effect} for effect in ("NoSchedule", "NoExecute")])


@pytest.mark.claim("K4")
def test_an_agent_that_is_away(pod: Make, node: Make) -> None:
    away = tainted(node, "node.kubernetes.io/unreachable")
    assert told(pod(), away) == claimed("K4", nodes=1, count=1)


@pytest.mark.claim("K17")
def test_a_node_that_is_not_ready(pod: Make, node: Make) -> None:
    """Its agent answers: it has said so itself."""
    away = tainted(node, "node.kubernetes.io/not-ready")
    assert told(pod(), away) == claimed("K17", nodes=1, count=1)


@pytest.mark.claim("K5")
def test_a_cordoned_node(pod: Make, node: Make) -> None:
    assert told(pod(), node(unschedulable=True)) == claimed("K5", nodes=1, count=1)
    taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    assert told(pod(), node(taints=[taint])).endswith(
        claimed("K5", nodes=1, count=1).partition(". ")[2]
    )


@pytest.mark.claim("K6")
@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, "spec.nodeSelector[disk] ssd"),
        (
            {"nodeSelector": {"disk": "ssd", "type": "virtual-kubelet", "zone": "a"}},
            "spec.nodeSelector[disk] ssd, spec.nodeSelector[zone] a",
        ),
        (
            {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}
                    }
                }
            },
            "spec.affinity.nodeAffinity",
        ),
    ],
)
def test_what_no_node_is(pod: Make, node: Make, spec: dict[str, Any], fields: str) -> None:
    said = told(pod(**spec), node(), node(name="other", labels={"size": "s"}))
    assert said == claimed("K6", nodes=2, count=2, fields=fields)


@pytest.mark.claim("K7")
def test_a_partition_that_is_not_there(pod: Make, node: Make) -> None:
    no_gpu = pod(nodeSelector={"slurmlet.io/partition": "gpu"})
    field = "spec.nodeSelector[slurmlet.io/partition]"
    values = {"field": field, "partition": "gpu"}
    assert told(no_gpu, node()) == claimed(
        "K7", nodes=1, count=1, partitions="cpu, debug", **values
    )
    each = [node(name=name, labels={"slurmlet.io/partition": name}) for name in ("a", "b")]
    for item in each:
        item["metadata"]["annotations"] = {}
    assert told(no_gpu, *each) == claimed("K7", nodes=2, count=2, partitions="a, b", **values)
    annotated = pod()
    annotated["metadata"]["annotations"] = {"slurmlet.io/partition": "gpu"}
    assert "partition gpu: no such partition; use a, b." in told(annotated, *each)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "1" * 5000])
def test_an_agent_that_has_not_said_its_partitions_gets_no_pod_that_names_one(
    pod: Make, node: Make, text: str
) -> None:
    target = node()
    target["metadata"]["annotations"]["slurmlet.io/largest"] = text
    said = told(pod(nodeSelector={"slurmlet.io/partition": "cpu"}), target)
    assert "no partition is known yet; wait, or ask the administrator" in said
    assert verdict(pod(), [target]).node == "slurm"


@pytest.mark.claim("K8")
def test_wishes_that_no_node_meets_together(pod: Make, node: Make) -> None:
    nodes = [node(labels={"disk": "ssd"}), node(name="other", labels={"zone": "a"})]
    assert told(pod(nodeSelector={"disk": "ssd", "zone": "a"}), *nodes) == claimed(
        "K8", nodes=2, count=2, fields="spec.nodeSelector[disk] ssd, spec.nodeSelector[zone] a"
    )


@pytest.mark.claim("K9")
@pytest.mark.parametrize(
    ("requests", "annotations", "resource", "values"),
    [
        ({"cpu": "16100m"}, {}, "cpu", {"counts": "17 CPUs", "most": "16 CPUs"}),
        (
            {"memory": "64001Mi"},
            {},
            "memory",
            {"counts": "64001 MiB of memory", "most": "64000 MiB of memory"},
        ),
        (
            {"cpu": "5"},
            {"slurmlet.io/partition": "debug"},
            "cpu",
            {"counts": "5 CPUs", "most": "4 CPUs", "where": " of partition debug"},
        ),
        ({"gpu": "3"}, {}, "nvidia.com/gpu", {"counts": "3 gpu", "most": "2 gpu"}),
        ({"gpu": "5"}, {}, "nvidia.com/gpu", {"counts": "5 gpu", "most": "2 gpu"}),
        (
            {},
            {"slurmlet.io/gres": "gpu:3"},
            "gres/gpu",
            {"counts": "3 gpu", "most": "2 gpu"},
        ),
        (
            {"cpu": "1"},
            {"slurmlet.io/ntasks": "20"},
            "cpu",
            {"counts": "20 CPUs", "most": "16 CPUs"},
        ),
    ],
)
def test_more_than_any_machine_has(
    pod: Make,
    node: Make,
    requests: dict[str, str],
    annotations: dict[str, str],
    resource: str,
    values: dict[str, str],
) -> None:
    said = told(asking(pod, annotations=annotations, **requests), node())
    assert said == claimed("K9", nodes=1, count=1, resource=resource, **{"where": "", **values})


MIXED = {
    "mixed": [
        {"cpu": "64", "memory": "128000Mi", "gres": {}},
        {"cpu": "16", "memory": "2000000Mi", "gres": {"gpu": "4"}},
    ]
}


@pytest.mark.claim("K16")
def test_all_of_it_only_different_machines_have(pod: Make, node: Make) -> None:
    target = node()
    target["metadata"]["annotations"]["slurmlet.io/largest"] = json.dumps(MIXED)
    said = told(asking(pod, cpu="48", memory="1Ti", gpu="2"), target)
    assert said == claimed(
        "K16",
        nodes=1,
        reasons="1 Insufficient cpu, 1 Insufficient memory, 1 Insufficient nvidia.com/gpu",
        counts="48 CPUs, 1048576 MiB of memory, 2 gpu",
        where="",
        most="64 CPUs, 128000 MiB of memory, 0 gpu, or 16 CPUs, 2000000 MiB of memory, 4 gpu",
    )
    assert verdict(asking(pod, cpu="64", memory="128000Mi"), [target]).node == "slurm"
    assert verdict(asking(pod, cpu="16", memory="1Ti"), [target]).node == "slurm"
    assert verdict(asking(pod, cpu="16", gpu="4"), [target]).node == "slurm"


@pytest.mark.claim("K9", "K61")
def test_the_figures_are_those_of_admission_where_it_wrote_them(pod: Make, node: Make) -> None:
    request = json.dumps({"cpus-per-task": "1", "mem": "64128M"})
    large = asking(pod, annotations={"status.slurmlet.io/request": request}, memory="64001Mi")
    assert "asks for 64128 MiB of memory (its overhead included)" in told(large, node())
    # A site may give more or less than the pod asks for.
    large["metadata"]["annotations"] = {"status.slurmlet.io/request": '{"mem-per-cpu": "4000"}'}
    assert verdict(large, [node()]).node == "slurm"
    small = asking(pod, annotations={"status.slurmlet.io/request": request}, memory="64000Mi")
    assert "asks for 64128 MiB of memory" in told(small, node())
    many = asking(pod, annotations={"status.slurmlet.io/request": '{"cpus-per-task": "99"}'})
    assert "the pod asks for 99 CPUs" in told(many, node())


@pytest.mark.claim("K61")
@pytest.mark.parametrize(("memory", "fits"), [("1G", True), ("64001M", False)])
def test_annotations_that_were_changed_after_admission_count(
    pod: Make, node: Make, memory: str, fits: bool
) -> None:
    admitted = "1G" if not fits else "64128M"
    annotations = {
        "slurmlet.io/mem": memory,
        "status.slurmlet.io/request": json.dumps({"cpus-per-task": "1", "mem": admitted}),
    }
    assert bool(verdict(asking(pod, annotations=annotations), [node()]).node) == fits


@pytest.mark.claim("K61")
@pytest.mark.parametrize(
    ("annotation", "value", "admitted"),
    [
        ("time", "1:00:00", {"time": "60", "mem": "1000M"}),
        ("mem", "4096M", {"mem": "4G"}),
        ("partition", "cpu,other", {"partition": "cpu", "mem": "1000M"}),
        ("time", "5", {"mem": "1000M"}),
    ],
    ids=["spelling", "unit", "one-of-several", "added"],
)
def test_what_a_site_gives_instead_holds_beside_other_annotations(
    pod: Make, node: Make, annotation: str, value: str, admitted: dict[str, str]
) -> None:
    request = json.dumps({"cpus-per-task": "1", **admitted})
    annotations = {
        f"slurmlet.io/{annotation}": value,
        "status.slurmlet.io/request": request,
    }
    assert verdict(asking(pod, annotations=annotations, memory="99Ti"), [node()]).node == "slurm"


@pytest.mark.claim("K61")
def test_an_annotation_that_was_removed_counts_until_another_one_says(
    pod: Make, node: Make
) -> None:
    annotations = {"status.slurmlet.io/request": json.dumps({"mem": "99T"})}
    assert "asks for" in told(asking(pod, annotations=annotations), node())
    annotations["slurmlet.io/mem-per-cpu"] = "1G"
    assert verdict(asking(pod, annotations=annotations), [node()]).node == "slurm"


@pytest.mark.claim("K10")
@pytest.mark.parametrize("mapped", ["nvidia.com/gpu", "none"])
def test_a_resource_that_nobody_has(pod: Make, node: Make, mapped: str) -> None:
    target = node()
    if mapped == "none":
        target["status"] = {"capacity": {"cpu": "40"}}
    values = {"resource": "example.com/foo", "resources": mapped}
    assert told(asking(pod, foo="1"), target) == claimed("K10", nodes=1, count=1, **values)
    assert verdict(asking(pod, foo="0"), [target]).node == "slurm"
    said_so = {"slurmlet.io/gres": "gpu:1"}
    assert verdict(asking(pod, annotations=said_so, foo="1"), [target]).node == "slurm"


@pytest.mark.claim("K10")
def test_gpus_of_another_vendor(pod: Make, node: Make) -> None:
    target = node()
    values = {"resource": "amd.com/gpu", "resources": "nvidia.com/gpu"}
    assert told(asking(pod, amd="1"), target) == claimed("K10", nodes=1, count=1, **values)
    target["status"] = {"capacity": {"cpu": "40", "amd.com/gpu": "4"}}
    assert verdict(asking(pod, amd="2"), [target]).node == "slurm"
    assert "asks for 3 gpu (its overhead included), the largest node" in told(
        asking(pod, amd="3"), target
    )


@pytest.mark.claim("K11")
def test_more_of_a_resource_than_the_node_has(pod: Make, node: Make) -> None:
    target = node()
    target["metadata"]["annotations"] = {}
    assert told(asking(pod, gpu="5"), target) == claimed(
        "K11",
        nodes=1,
        count=1,
        resource="nvidia.com/gpu",
        counts="5 nvidia.com/gpu",
        most="4 nvidia.com/gpu",
    )
    assert verdict(asking(pod, gpu="4"), [target]).node == "slurm"


@pytest.mark.claim("K25")
def test_a_resource_that_is_down_comes_back(pod: Make, node: Make) -> None:
    target = node()
    target["status"] = {**target["status"], "allocatable": {"cpu": "0", "pods": "100"}}
    assert verdict(asking(pod, gpu="2"), [target]).node == "slurm"


@pytest.mark.claim("K12")
def test_huge_pages(pod: Make, node: Make) -> None:
    said = told(asking(pod, pages="4Mi"), node())
    assert said == claimed("K12", nodes=1, count=1, resource="hugepages-2Mi")


@pytest.mark.claim("K13")
def test_as_many_pods_as_a_node_may_have(pod: Make, node: Make) -> None:
    assert told(pod(), node(), running={"slurm": 100}) == claimed("K13", nodes=1, count=1, most=100)
    assert verdict(pod(), [node()], running={"slurm": 99}).node == "slurm"
    assert verdict(pod(), [node(), node(name="z")], running={"slurm": 100}).node == "z"


@pytest.mark.claim("K14")
@pytest.mark.parametrize(
    "claim",
    [
        {"persistentVolumeClaim": {"claimName": "data"}},
        {"ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
    ],
)
def test_claims_of_storage(pod: Make, node: Make, claim: dict[str, Any]) -> None:
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "data", **claim}]
    fields = f"spec.volumes[data].{next(iter(claim))}"
    assert told(pod(volumes=volumes), node()) == claimed("K14", nodes=1, count=1, fields=fields)


def test_other_volumes_are_the_agents_to_refuse(pod: Make, node: Make) -> None:
    volumes = [{"name": "home", "hostPath": {"path": "/"}}, {"name": "tmp", "emptyDir": {}}]
    assert verdict(pod(volumes=volumes), [node()]).node == "slurm"


@pytest.mark.claim("K15")
def test_claims_of_devices(pod: Make, node: Make) -> None:
    claims = [{"name": "gpu", "resourceClaimName": "gpu"}]
    assert told(pod(resourceClaims=claims), node()) == claimed("K15", nodes=1, count=1)
    assert verdict(pod(resourceClaims=[]), [node()]).node == "slurm"


UNKNOWN = [
    "",
    "null",
    "[]",
    '{"cpu": null, "debug": {}}',
    '{"cpu": {"cpu": "16", "memory": "64000Mi"}}',
    '{"cpu": {"cpu": "many", "memory": "64000Mi", "gres": {}}}',
    '{"cpu": {"cpu": ["16"], "memory": {"x": 1}, "gres": {"gpu": null}}}',
    # The pod may go to the partition that is not known.
    '{"cpu": {"cpu": "16", "memory": "64000Mi", "gres": {}}, "debug": {}}',
    '{"cpu": []}',
    '{"cpu": [{"cpu": "16", "memory": "64000Mi", "gres": {}}, null]}',
    '{"cpu": [{"cpu": "16", "memory": "64000Mi", "gres": {}}], "debug": [[]]}',
]


@pytest.mark.claim("K25")
@pytest.mark.parametrize("text", UNKNOWN)
def test_a_size_that_is_not_known_denies_nothing(pod: Make, node: Make, text: str) -> None:
    target = node()
    target["metadata"]["annotations"]["slurmlet.io/largest"] = text
    assert verdict(asking(pod, cpu="999", memory="9Ti"), [target]).node == "slurm"
    hidden = asking(pod, annotations={"slurmlet.io/partition": "hidden"}, cpu="999")
    assert verdict(hidden, [node()]).node == "slurm"


@pytest.mark.claim("K25")
@pytest.mark.parametrize("status", [None, {}, {"capacity": None}, {"capacity": {"cpu": "0"}}])
def test_a_capacity_that_is_not_known_denies_nothing(pod: Make, node: Make, status: Any) -> None:
    target = node()
    target["status"] = status
    asks = asking(pod, foo="1", pages="2Mi")
    assert verdict(asks, [target], running={"slurm": 10**6}).node == "slurm"


@pytest.mark.claim("K25")
def test_a_number_of_pods_that_is_not_known_denies_nothing(pod: Make, node: Make) -> None:
    target = node()
    target["status"]["allocatable"] = {"pods": "0"}
    assert verdict(pod(), [target]).node == "slurm"
    assert verdict(pod(), [target], running={"other": 5}).node == "slurm"
