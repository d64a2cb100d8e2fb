"""The virtual node: capacity from sinfo's text, and an object that does not flap."""

import json
from typing import Any

from tests.unit.kubelet.fakes import merged

from slurmlet.contracts.request import RequestPolicy
from slurmlet.kubelet import node
from slurmlet.kubelet.config import Kubelet, problems
from slurmlet.kubelet.node import Software
from slurmlet.kubelet.slurm import capacity

SINFO = """\
c1|cpu|4|8000|idle|10.77.0.11|c1|gpu:tesla:2(S:0-1)
c1|debug|4|8000|idle|10.77.0.11|c1|gpu:tesla:2(S:0-1)
c2|cpu|8|16000|down*|c2.site|c2|(null)
c3|big|64|512000|mix-|c3|c3|gpu:a100:3,gpu:h100:1,tmpdisk:500G
not a line
"""
CONFIG = Kubelet(server="https://10.77.0.1:6443", address="10.77.0.1")


def patch_of(live: dict[str, Any], *, problem: str = "", now: str = "2026-01-01T00:00:00Z") -> Any:
    return node.status_patch(
        live,
        CONFIG,
        nodes=capacity.parse(SINFO),
        slurm_problem=problem,
        software=Software(agent="0.1.0", slurm="24.11.5"),
        now=now,
    )


def test_nodes_in_several_partitions_count_once() -> None:
    nodes = capacity.parse(SINFO)
    assert sorted(nodes) == ["c1", "c2", "c3"]
    assert nodes["c1"].partitions == ("cpu", "debug")
    assert nodes["c2"].address == "c2.site"
    everything = capacity.total(nodes, usable_only=False)
    assert (everything.cpus, everything.memory) == (76, 536000)
    assert everything.gres["gpu"] == 6


def test_what_is_down_is_not_allocatable() -> None:
    status = patch_of({"status": {}})["status"]
    assert status["capacity"]["cpu"] == "76"
    assert status["allocatable"]["cpu"] == "68"
    assert status["allocatable"]["memory"] == "520000Mi"
    assert status["allocatable"]["nvidia.com/gpu"] == "6"


def test_the_largest_node_of_each_partition() -> None:
    told = json.loads(node.largest_annotation(capacity.parse(SINFO), CONFIG))
    assert told["cpu"] == {"cpu": "8", "memory": "16000Mi", "gres": {"gpu": "2"}}
    assert told["debug"]["cpu"] == "4"


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


def test_registration_has_the_taint_unless_it_is_off() -> None:
    spec = node.new_node(CONFIG, cluster="lab")["spec"]
    assert spec["taints"] == [{"key": "slurmlet.io/slurm", "value": "", "effect": "NoSchedule"}]
    bare = Kubelet(server="https://x", address="10.0.0.1", taint=False)
    assert node.new_node(bare, cluster="lab")["spec"]["taints"] == []


def test_labels_are_repaired() -> None:
    wanted = node.new_node(CONFIG, cluster="lab")
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
