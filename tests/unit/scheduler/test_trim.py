"""What is kept decides as the whole does, and takes little memory."""

import copy
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from slurmlet.scheduler import trim
from slurmlet.scheduler.verdict import is_ours, verdict

Make = Callable[..., dict[str, Any]]

CONTAINER = {
    "name": "main",
    "image": "registry.lab:5000/web:1.0",
    "command": ["/bin/sh", "-c", "x" * 200],
    "env": [{"name": f"V{number}", "value": "x" * 40} for number in range(20)],
    "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "64Mi"}},
    "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}],
    "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets"}],
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "imagePullPolicy": "IfNotPresent",
}
ANNOTATIONS = {"slurmlet.io/time": "30", "slurm.hpk.io/flags": "-n1"}
MANIFEST = "kubectl.kubernetes.io/last-applied-configuration"


def whole(pod: Make, name: str = "web", **spec: Any) -> dict[str, Any]:
    """A pod as the API server sends one."""
    item = pod(
        name=name,
        containers=[CONTAINER],
        initContainers=[{**CONTAINER, "name": "init", "restartPolicy": "Always"}],
        volumes=[
            {"name": "kube-api-access", "projected": {"sources": [{"configMap": {"name": "ca"}}]}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        ],
        serviceAccountName="default",
        terminationGracePeriodSeconds=30,
        **spec,
    )
    item["metadata"] |= {
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"app": "web"},
        "annotations": {
            MANIFEST: "{" * 5000,
            "slurmlet.io/time": "30",
            "slurm.hpk.io/flags": "-n1",
        },
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        "ownerReferences": [{"kind": "Job", "name": "web"}],
        "generation": 1,
    }
    item["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "none"},
        {"type": "Ready", "status": "False"},
    ]
    # As parsed: no string of one pod is that of another.
    parsed: dict[str, Any] = json.loads(json.dumps(item))
    return parsed


def test_what_is_kept_of_a_pod(pod: Make) -> None:
    kept = trim.pod(whole(pod, nodeSelector={"a": "b"}, overhead={"cpu": "1"}, nodeName=""))
    assert kept["metadata"] == {
        "name": "web",
        "namespace": "alice",
        "uid": "uid-web",
        "resourceVersion": "1",
        "generation": 1,
        "labels": {"app": "web"},
        "annotations": ANNOTATIONS,
    }
    assert set(kept["spec"]) == {
        "schedulerName",
        "tolerations",
        "containers",
        "initContainers",
        "volumes",
        "nodeSelector",
        "overhead",
        "nodeName",
    }
    names = ("name", "resources", "ports")
    assert kept["spec"]["containers"] == [{name: CONTAINER[name] for name in names}]
    assert kept["spec"]["initContainers"][0]["restartPolicy"] == "Always"
    assert kept["spec"]["volumes"] == [
        {"name": "kube-api-access", "projected": {}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
    ]
    assert [item["type"] for item in kept["status"]["conditions"]] == ["PodScheduled"]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"tolerations": []},
        {"nodeSelector": {"slurmlet.io/partition": "gpu"}},
        {"nodeSelector": {"slurmlet.io/partition": "cpu"}},
        {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}
                        ]
                    }
                }
            }
        },
        {"schedulingGates": [{"name": "quota"}]},
    ],
    ids=str,
)
def test_the_verdict_on_what_is_kept_is_that_on_the_whole(
    pod: Make, node: Make, spec: dict[str, Any]
) -> None:
    item, where = whole(pod, **spec), node()
    kept, kept_node = trim.pod(copy.deepcopy(item)), trim.node(copy.deepcopy(where))
    assert verdict(kept, [kept_node]) == verdict(item, [where])
    names = {"slurmlet-scheduler"}
    assert is_ours(kept, names) == is_ours(item, names)


def test_what_counts_of_a_pod(pod: Make) -> None:
    item = trim.pod(whole(pod))
    told = copy.deepcopy(item)
    told["status"]["conditions"] = []
    told["metadata"] |= {"resourceVersion": "2", "generation": 2}
    assert trim.counts(told) == trim.counts(item)
    for change in (
        {"metadata": {**item["metadata"], "labels": {}}},
        {"metadata": {**item["metadata"], "deletionTimestamp": "2026-01-02T03:04:05Z"}},
        {"spec": {**item["spec"], "nodeSelector": {"a": "b"}}},
        {"status": {**item["status"], "phase": "Failed"}},
    ):
        assert trim.counts(item | change) != trim.counts(item)
    assert trim.counts(None) != trim.counts(item)


def test_what_counts_of_a_node(node: Make) -> None:
    item = node()
    item["metadata"]["annotations"]["slurmlet.io/largest"] += " " * 10_000
    item["status"] = {
        "allocatable": {"pods": "100"},
        "conditions": [{"type": "Ready", "lastHeartbeatTime": "then"}],
        "images": [{"names": ["x"]}],
    }
    kept = trim.node(item)
    assert kept["metadata"]["annotations"] == item["metadata"]["annotations"]
    item["status"]["conditions"][0]["lastHeartbeatTime"] = "now"
    item["metadata"]["resourceVersion"] = "2"
    assert trim.counts(trim.node(item)) == trim.counts(kept)
    item["metadata"]["annotations"]["slurmlet.io/jobs"] = '{"RUNNING": 1}'
    assert trim.counts(trim.node(item)) == trim.counts(kept), "of annotations the sizes alone count"
    item["status"]["allocatable"]["pods"] = "101"
    assert trim.counts(trim.node(item)) != trim.counts(kept)


def test_a_thousand_pods_take_little_memory(pod: Make) -> None:
    items = [json.dumps(whole(pod, name=f"web-{number}")) for number in range(1000)]
    tracemalloc.start()
    kept = [trim.pod(json.loads(item)) for item in items]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 1000
    assert taken < 6_500_000, "of 150 MiB for 10,000 pods the process itself takes the half"
