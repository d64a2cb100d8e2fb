"""The virtual node: an object that tells what Slurm has, and does not flap."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kubelet.fakes import inventory_of, merged

from slurmlet.contracts.request import RequestPolicy
from slurmlet.kubelet import node
from slurmlet.kubelet.config import Kubelet, problems, virtual_nodes
from slurmlet.kubelet.node import Facts
from slurmlet.kubelet.slurm.capacity import Inventory, Partition, SlurmNode

SINFO = """\
c1|cpu*|4|8000|idle|10.77.0.11|c1|gpu:tesla:2(S:0-1)|
c1|debug|4|8000|idle|10.77.0.11|c1|gpu:tesla:2(S:0-1)|
c2|cpu*|8|16000|down+not_responding|c2.site|c2|(null)|
c3|big|64|512000|mixed+planned|c3|c3|gpu:a100:3,gpu:h100:1,tmpdisk:500G|
"""
CONFIG = Kubelet(server="https://10.77.0.1:6443", address="10.77.0.1")
(NODE,) = virtual_nodes(CONFIG)


def patch_of(
    live: dict[str, Any],
    *,
    problem: str = "",
    now: str = "2026-01-01T00:00:00Z",
    inventory: Inventory | None = None,
) -> Any:
    facts = Facts(
        inventory=inventory_of(SINFO) if inventory is None else inventory,
        agent="0.1.0",
        slurm="24.11.5",
        jobs={"running": 3, "pending": 1},
        problem=problem,
    )
    return node.status_patch(live, NODE, CONFIG, facts=facts, now=now)


def annotation(name: str, inventory: Inventory | None = None) -> Any:
    patch = patch_of({"status": {}}, inventory=inventory)
    return json.loads(patch["metadata"]["annotations"][f"slurmlet.io/{name}"])


def test_nodes_in_several_partitions_count_once() -> None:
    status = patch_of({"status": {}})["status"]
    assert status["capacity"]["cpu"] == "76"
    assert status["capacity"]["memory"] == "536000Mi"
    assert status["capacity"]["nvidia.com/gpu"] == "6"


def test_gpus_are_those_of_one_vendor_unless_the_site_says_more() -> None:
    def told(**gres: str) -> set[str]:
        mapped = {name.replace("_", ".") + "/gpu": value for name, value in gres.items()}
        config = replace(CONFIG, request=RequestPolicy(gres=mapped)) if gres else CONFIG
        facts = Facts(inventory=inventory_of(SINFO), agent="0.1.0")
        patch: Any = node.status_patch({"status": {}}, NODE, config, facts=facts, now="")
        return {name for name in patch["status"]["capacity"] if "/" in name}

    assert told() == {"nvidia.com/gpu"}
    assert told(amd_com="gpu") == {"amd.com/gpu"}
    assert told(nvidia_com="gpu:a100", amd_com="gpu:mi300") == {"nvidia.com/gpu"}


def test_what_is_down_is_not_allocatable() -> None:
    status = patch_of({"status": {}})["status"]
    assert status["allocatable"]["cpu"] == "68"
    assert status["allocatable"]["memory"] == "520000Mi"
    assert status["allocatable"]["nvidia.com/gpu"] == "6"


@pytest.mark.claim("V1")
def test_devices_that_no_job_may_have_now_are_taken_back() -> None:
    live: dict[str, Any] = {"status": {}}
    live = merged(live, patch_of(live))
    drained = inventory_of(SINFO.replace("|idle|", "|idle+drain|").replace("+planned", "+drain"))
    live = merged(live, patch_of(live, inventory=drained))
    assert live["status"]["capacity"]["nvidia.com/gpu"] == "6"
    assert "nvidia.com/gpu" not in live["status"]["allocatable"]
    removed = inventory_of("c2|cpu*|8|16000|idle|c2.site|c2|(null)|\n")
    live = merged(live, patch_of(live, inventory=removed))
    assert live["status"]["capacity"].keys() == {"cpu", "memory", "pods"}


def test_the_largest_nodes_of_each_partition() -> None:
    told = annotation("largest")
    assert told["cpu"] == [
        {"cpu": "8", "memory": "16000Mi", "gres": {}},
        {"cpu": "4", "memory": "8000Mi", "gres": {"gpu": "2", "gpu:tesla": "2"}},
    ]
    assert [size["cpu"] for size in told["debug"]] == ["4"]


@pytest.mark.claim("V6")
def test_describing_the_node_says_what_slurm_has() -> None:
    """kubectl describe shows annotations as they are."""
    assert annotation("slurm-nodes") == {"down": 1, "idle": 1, "planned": 1}
    assert annotation("jobs") == {"pending": 1, "running": 3}
    assert annotation("partitions")["cpu"] == {"default": True, "nodes": 2, "up": True}


@pytest.mark.claim("V6")
def test_describing_the_node_says_the_limits_of_partitions() -> None:
    machine = SlurmNode(
        name="c1", address="c1", cpus=16, memory=8000, usable=True, partitions=("debug",)
    )
    debug = Partition(
        name="debug",
        up=False,
        max_minutes=30,
        max_cpus_per_node=4,
        max_cpus_per_socket=3,
        max_memory_per_node=2000,
        max_memory_per_cpu=500,
    )
    found = Inventory(nodes={"c1": machine}, partitions={"debug": debug})
    assert annotation("partitions", found)["debug"] == {
        "nodes": 1,
        "up": False,
        "maxMinutes": 30,
        "maxCPUsPerNode": 4,
        "maxCPUsPerSocket": 3,
        "maxMemoryPerNode": "2000Mi",
        "maxMemoryPerCPU": "500Mi",
    }


def test_a_silent_slurm_leaves_the_node_ready() -> None:
    conditions = {
        item["type"]: item["status"]
        for item in patch_of({"status": {}}, problem="squeue: no answer")["status"]["conditions"]
    }
    assert conditions["Ready"] == "True"
    assert conditions[node.SLURM_CONDITION] == "False"


def test_transition_times_stay_while_nothing_changes() -> None:
    live: dict[str, Any] = {"status": {}}
    live = merged(live, patch_of(live))
    later = patch_of(live, now="2026-01-01T01:00:00Z")["status"]["conditions"]
    assert {item["lastTransitionTime"] for item in later} == {"2026-01-01T00:00:00Z"}
    assert {item["lastHeartbeatTime"] for item in later} == {"2026-01-01T01:00:00Z"}


@pytest.mark.claim("V1")
@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"annotations": {"slurmlet.io/largest": "{}"}}},
        {"metadata": {"annotations": {"slurmlet.io/jobs": None}}},
        {"status": {"capacity": {"cpu": "999"}}},
        {"status": {"allocatable": {"memory": None}}},
        {"status": {"allocatable": {"example.com/dongle": "1"}}},
        {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
        {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}},
        {"status": {"nodeInfo": {"osImage": "other"}}},
        {"status": {"addresses": []}},
    ],
)
def test_what_somebody_changed_is_put_right(change: dict[str, Any]) -> None:
    live = merged({"metadata": {}}, patch_of({"status": {}}))
    assert not node.differs(live, patch_of(live, now="2026-01-01T01:00:00Z"))
    changed = merged(live, change)
    repair = patch_of(changed)
    assert node.differs(changed, repair)
    assert not node.differs(merged(changed, repair), repair)


def test_quantities_as_the_api_server_writes_them_are_the_same() -> None:
    live = merged({"metadata": {}}, patch_of({"status": {}}))
    theirs = {"status": {"capacity": {"cpu": "76e0", "memory": "562036736000"}}}
    assert not node.differs(merged(live, theirs), patch_of(live))


def test_registration_has_the_taint_unless_it_is_off() -> None:
    spec = node.new_node(NODE, CONFIG, cluster="lab")["spec"]
    assert spec["taints"] == [{"key": "slurmlet.io/slurm", "value": "", "effect": "NoSchedule"}]
    bare = Kubelet(server="https://x", address="10.0.0.1", taint=False)
    assert node.new_node(NODE, bare, cluster="lab")["spec"]["taints"] == []


def test_labels_are_repaired() -> None:
    wanted = node.new_node(NODE, CONFIG, cluster="lab")
    assert node.metadata_patch(wanted, wanted) is None
    live = {"metadata": {"labels": {"type": "other", "mine": "kept"}}}
    patch = node.metadata_patch(live, wanted)
    assert patch is not None
    assert patch["metadata"]["labels"]["type"] == "virtual-kubelet"
    assert "mine" not in patch["metadata"]["labels"]


def test_wrong_keys_are_named() -> None:
    wrong = Kubelet(
        server="10.0.0.1",
        address="10.0.0.1",
        engines=(),
        poll_seconds=0.1,
        dns_servers=("10.77.0.1", "ctl", "10.77.0.2", "10.77.0.3"),
        cluster_domain="Cluster.local",
        port=0,
        request=RequestPolicy(locks={"uid": "0"}),
    )
    found = "\n".join(problems(wrong))
    keys = ("server", "engines", "poll_seconds", "port", "dns_servers", "cluster_domain")
    for name in (*keys, "request.locks.uid"):
        assert f"kubelet.{name}:" in found


SITE = Kubelet(
    server="https://10.77.0.1:6443",
    address="10.77.0.1",
    nodes="per-partition",
    partitions=("cpu", "debug", "Big.Mem"),
    client_cert="/pki/node-slurm.crt",
    client_key="/pki/node-slurm.key",
)


@pytest.mark.claim("V9")
def test_each_partition_has_a_node_a_certificate_and_a_port() -> None:
    assert problems(SITE) == []
    found = [(item.name, item.partition, item.port) for item in virtual_nodes(SITE)]
    assert found == [
        ("slurm-cpu", "cpu", 10250),
        ("slurm-debug", "debug", 10300),
        ("slurm-big-mem", "Big.Mem", 10301),
    ]
    assert virtual_nodes(SITE)[2].client_cert == "/pki/node-slurm-big-mem.crt"
    assert virtual_nodes(SITE)[2].client_key == "/pki/node-slurm-big-mem.key"


@pytest.mark.claim("V13")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nodes": "many"}, "kubelet.nodes: 'many' is neither single nor per-partition"),
        ({"nodes": "single"}, "with nodes = 'single', which has one node for all; remove them"),
        ({"partitions": ()}, "kubelet.partitions: 0; name those that get a node, 1 to 100"),
        ({"partitions": ("a_b", "A.B")}, "'a_b' and 'A.B' would both be node 'slurm-a-b'"),
        ({"partitions": ("cpu", "cpu")}, "'cpu' and 'cpu' would both be node 'slurm-cpu'"),
        ({"partitions": ("a" * 47,)}, "which is no DNS name of at most 52 characters"),
        ({"partitions": ("gpu+x",)}, "can be no value of the label slurmlet.io/partition"),
        ({"further_ports": 10260}, "10260 to 10261 has kubelet.supervisor_port"),
        ({"further_ports": 65535}, "65535 to 65536 are no ports"),
        (
            {"request": RequestPolicy(locks={"partition": "cpu"})},
            "kubelet.request.locks.partition: each node is a partition",
        ),
    ],
)
def test_what_can_be_no_nodes_of_partitions_is_said_at_the_start(
    changes: dict[str, Any], said: str
) -> None:
    assert said in "\n".join(problems(replace(SITE, **changes)))


@pytest.mark.claim("V13")
@pytest.mark.parametrize("name", ["Slurm_HPC", "a" * 60, "", "-slurm"])
def test_a_name_that_no_node_can_have_is_said_at_the_start(name: str) -> None:
    for config in (CONFIG, SITE):
        (found,) = problems(replace(config, node_name=name))
        start = f"kubelet.node_name: {name!r} is no DNS name of at most 52 characters"
        assert found.startswith(start)
    assert problems(replace(CONFIG, node_name="slurm.hpc")) == []


@given(st.lists(st.text(st.characters(codec="ascii"), min_size=1, max_size=50), max_size=5))
def test_nodes_of_partitions_that_are_taken_have_names_of_their_own(names: list[str]) -> None:
    config = replace(SITE, partitions=tuple(names))
    found = [item.name for item in virtual_nodes(config)]
    if problems(config) == []:
        assert len(set(found)) == len(names)
        assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) for name in found)


@pytest.mark.claim("V9")
def test_the_node_of_a_partition_tells_of_this_partition_alone() -> None:
    _, debug, _ = virtual_nodes(SITE)
    facts = Facts(inventory=inventory_of(SINFO), agent="0.1.0")
    patch: Any = node.status_patch({"status": {}}, debug, SITE, facts=facts, now="")
    assert patch["status"]["capacity"]["cpu"] == "4"
    assert patch["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10300
    told = patch["metadata"]["annotations"]
    assert list(json.loads(told["slurmlet.io/largest"])) == ["debug"]
    assert list(json.loads(told["slurmlet.io/partitions"])) == ["debug"]
    assert json.loads(told["slurmlet.io/slurm-nodes"]) == {"idle": 1}


@pytest.mark.claim("V14")
def test_the_node_of_a_partition_says_which_capacity_overlaps() -> None:
    cpu, debug, _ = virtual_nodes(SITE)
    facts = Facts(inventory=inventory_of(SINFO), agent="0.1.0")
    for item, other in ((cpu, "debug"), (debug, "cpu")):
        patch: Any = node.status_patch({"status": {}}, item, SITE, facts=facts, now="")
        told = json.loads(patch["metadata"]["annotations"]["slurmlet.io/overlaps"])
        assert told == {other: ["c1"]}
    assert "slurmlet.io/overlaps" not in patch_of({"status": {}})["metadata"]["annotations"]


@pytest.mark.claim("V14")
@pytest.mark.parametrize(("others", "names"), [(6, 16), (1000, 0)])
def test_overlaps_of_a_large_site_are_short(others: int, names: int) -> None:
    cpu, *_ = virtual_nodes(SITE)
    partitions = ("cpu", *(f"partition{number:04}" for number in range(others)))
    machines = {
        f"node{number:04}": SlurmNode(
            name=f"node{number:04}",
            address="",
            cpus=1,
            memory=1,
            usable=True,
            partitions=partitions,
        )
        for number in range(3000 if names else 20)
    }
    found = Inventory(
        nodes=machines, partitions={name: Partition(name=name) for name in partitions}
    )
    facts = Facts(inventory=found, agent="0.1.0")
    patch: Any = node.status_patch({"status": {}}, cpu, SITE, facts=facts, now="")
    # What all annotations of an object may have (apimachinery, TotalAnnotationSizeLimitB).
    assert sum(map(len, patch["metadata"]["annotations"].values())) < 256 * 1024
    told = json.loads(patch["metadata"]["annotations"]["slurmlet.io/overlaps"])
    assert len(told) == others
    more = f"and {len(machines) - names} more"
    assert told["partition0003"] == [*list(machines)[:names], more]


@pytest.mark.claim("V9")
def test_labels_of_a_partitions_node_choose_it() -> None:
    cpu, _, _ = virtual_nodes(SITE)

    def labels(partition: Partition | None) -> dict[str, str]:
        made = node.new_node(cpu, SITE, cluster="lab", partition=partition)["metadata"]["labels"]
        return {key: value for key, value in made.items() if key.startswith("slurmlet.io/")}

    always = {"slurmlet.io/cluster": "lab", "slurmlet.io/partition": "cpu"}
    assert labels(None) == always
    assert labels(Partition(name="cpu", default=True, max_minutes=30)) == {
        **always,
        "slurmlet.io/default-partition": "true",
        "slurmlet.io/max-time": "30",
    }
    assert labels(Partition(name="cpu")) == {**always, "slurmlet.io/max-time": "unlimited"}


def test_a_partition_that_is_not_the_default_any_more_loses_the_label() -> None:
    cpu, _, _ = virtual_nodes(SITE)
    default, other = Partition(name="cpu", default=True), Partition(name="cpu")
    live = node.new_node(cpu, SITE, cluster="lab", partition=default)
    wanted = node.new_node(cpu, SITE, cluster="lab", partition=other)
    assert node.metadata_patch(live, wanted) == {
        "metadata": {"labels": {"slurmlet.io/default-partition": None}}
    }
    unknown = node.new_node(cpu, SITE, cluster="lab")
    assert node.metadata_patch(live, unknown) is None, "before Slurm answers nothing is known"


@pytest.mark.claim("V9")
def test_a_partition_that_slurm_does_not_have_any_more_attracts_no_pods() -> None:
    """Slurm ends its jobs (slurmctld, reset_job_bitmaps), so that no pod there runs any more."""
    cpu, _, missing = virtual_nodes(SITE)
    default = Partition(name="cpu", default=True, max_minutes=30)
    live = node.new_node(cpu, SITE, cluster="lab", partition=default)
    wanted = node.new_node(cpu, SITE, cluster="lab")
    assert node.metadata_patch(live, wanted, gone=True) == {
        "metadata": {
            "labels": {"slurmlet.io/default-partition": None, "slurmlet.io/max-time": None}
        }
    }
    facts = Facts(inventory=inventory_of(SINFO), agent="0.1.0")
    for item, status in ((missing, "False"), (cpu, "True")):
        patch: Any = node.status_patch(live, item, SITE, facts=facts, now="")
        ready = next(row for row in patch["status"]["conditions"] if row["type"] == "Ready")
        assert ready["status"] == status
        live = merged(live, patch)
        assert not node.differs(live, patch), "a node that is not ready is not written all the time"
    patch = node.status_patch(live, missing, SITE, facts=facts, now="")
    assert patch["status"]["allocatable"]["cpu"] == "0"
    ready = next(row for row in patch["status"]["conditions"] if row["type"] == "Ready")
    assert ready["message"] == (
        "Slurm has no partition 'Big.Mem'; put it back into slurm.conf, or take it out of"
        " kubelet.partitions"
    )
