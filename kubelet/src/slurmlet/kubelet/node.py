"""The virtual node's object and status. Pure."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from slurmlet.contracts import quantity
from slurmlet.contracts.names import (
    DEFAULT_PARTITION_LABEL,
    JOBS_ANNOTATION,
    LARGEST_ANNOTATION,
    MAX_TIME_LABEL,
    OVERLAPS_ANNOTATION,
    PARTITION_LABEL,
    PARTITIONS_ANNOTATION,
    PREFIX,
    SLURM_NODES_ANNOTATION,
    TAINT_KEY,
)
from slurmlet.kubelet.config import Kubelet, VirtualNode
from slurmlet.kubelet.slurm.capacity import (
    Capacity,
    Inventory,
    Partition,
    allocatable,
    largest,
    overlaps,
    states,
    total,
)

Object = dict[str, Any]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
SLURM_CONDITION = "SlurmReachable"
MAX_SHARED = 16
"""Names of nodes that each overlap of partitions is told with: an object that has more than 256 KiB
of annotations is refused, and a site may have thousands of nodes in each of its partitions."""
MAX_OVERLAPS = 100
"""Of more partitions each overlap is a number, for the same reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a node's status is made of. `inventory` is all that Slurm has, None while that is not
    known, `jobs` counts those of the node's pods by state, `problem` says why Slurm cannot be asked
    now, or is empty; `agent` and `slurm` are releases."""

    inventory: Inventory | None
    agent: str
    slurm: str = ""
    jobs: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""


def new_node(
    node: VirtualNode, config: Kubelet, *, cluster: str, partition: Partition | None = None
) -> Object:
    """The object that registers the node; its status follows separately. `partition` is what is
    known of the node's own, if it has one."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    taints = [{"key": TAINT_KEY, "value": "", "effect": "NoSchedule"}] if config.taint else []
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {
                "type": "virtual-kubelet",
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture,
                "kubernetes.io/hostname": node.name,
                # kubelet still sets both, and old manifests select by them.
                "beta.kubernetes.io/os": "linux",
                "beta.kubernetes.io/arch": architecture,
                f"{PREFIX}cluster": cluster,
                **({PARTITION_LABEL: node.partition} if node.partition else {}),
                **(_partition_labels(partition) if partition else {}),
            },
        },
        "spec": {"taints": taints},
    }


def _partition_labels(partition: Partition) -> dict[str, str]:
    minutes = partition.max_minutes
    return {
        MAX_TIME_LABEL: "unlimited" if minutes is None else str(minutes),
        **({DEFAULT_PARTITION_LABEL: "true"} if partition.default else {}),
    }


def metadata_patch(
    live: Mapping[str, Any], wanted: Mapping[str, Any], *, gone: bool = False
) -> Object | None:
    """A merge patch for labels that are missing or wrong, or None. `gone` says that Slurm does not
    have the node's partition."""
    have, want = live["metadata"].get("labels") or {}, wanted["metadata"]["labels"]
    labels = {key: value for key, value in want.items() if have.get(key) != value}
    # Another partition may be Slurm's default now; with its time limit a partition is known.
    if gone or MAX_TIME_LABEL in want:
        facts = {MAX_TIME_LABEL, DEFAULT_PARTITION_LABEL}
        labels |= dict.fromkeys(facts & have.keys() - want.keys())
    return {"metadata": {"labels": labels}} if labels else None


def status_patch(
    live: Mapping[str, Any], node: VirtualNode, config: Kubelet, *, facts: Facts, now: str
) -> Object:
    """A strategic merge patch of the node's status. Before anything is known of Slurm, what an
    earlier agent wrote of it stays.

    The node stays Ready while Slurm is silent: what runs goes on, and a node that is not Ready
    would take its pods out of every Service.
    """
    before = live.get("status") or {}
    known = facts.inventory is not None or bool(before.get("capacity"))
    conditions = _conditions(
        live, slurm_problem=facts.problem, unready=_unready(node, facts, known=known), now=now
    )
    patch: Object = {
        "metadata": {},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": config.address},
                {"type": "Hostname", "address": node.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": node.port}},
            "nodeInfo": _info(facts, before.get("nodeInfo") or {}),
            "conditions": conditions,
        },
    }
    if facts.inventory is not None:
        own = facts.inventory.of(node.partition)
        patch["metadata"]["annotations"] = _annotations(facts, facts.inventory, node.partition)
        for key, size in (("capacity", total(own)), ("allocatable", allocatable(own))):
            patch["status"][key] = _replacing(before.get(key), _resources(size, config))
    return patch


def _annotations(facts: Facts, inventory: Inventory, partition: str) -> dict[str, str]:
    own = inventory.of(partition)
    return {
        **({OVERLAPS_ANNOTATION: overlaps_annotation(inventory, partition)} if partition else {}),
        LARGEST_ANNOTATION: largest_annotation(own),
        PARTITIONS_ANNOTATION: partitions_annotation(own),
        SLURM_NODES_ANNOTATION: _json(states(own)),
        JOBS_ANNOTATION: _json(facts.jobs),
    }


def differs(live: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
    """Whether a status patch would change more of the node than times."""
    return not _holds(_lasting(live), _lasting(patch))


def _lasting(node: Mapping[str, Any]) -> Object:
    """What a node or a patch says but for times, in a form that can be compared."""
    status = node.get("status") or {}
    return {
        **status,
        "annotations": node["metadata"].get("annotations") or {},
        **{key: _values(status[key]) for key in ("capacity", "allocatable") if status.get(key)},
        **{key: _by_type(status[key]) for key in ("addresses", "conditions") if status.get(key)},
    }


def _values(resources: Mapping[str, Any]) -> Object:
    # The API server writes quantities in its own way: 1024Mi becomes 1Gi.
    return {key: value and _value(value) for key, value in resources.items()}


def _value(text: str) -> Fraction | str:
    try:
        return quantity.parse(text)
    except quantity.QuantityError:
        return text


def _by_type(items: Sequence[Mapping[str, Any]]) -> Object:
    return {
        item["type"]: {key: value for key, value in item.items() if not key.endswith("Time")}
        for item in items
    }


def _holds(have: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(
        _holds(have.get(key) or {}, value) if isinstance(value, Mapping) else have.get(key) == value
        for key, value in wanted.items()
    )


def largest_annotation(inventory: Inventory) -> str:
    """JSON: partition → what a job may have of its nodes, in Kubernetes' quantities."""
    return _json(
        {
            partition: [
                {
                    "cpu": str(size.cpus),
                    "memory": f"{size.memory}Mi",
                    "gres": {name: str(count) for name, count in size.gres.items()},
                }
                for size in sizes
            ]
            for partition, sizes in largest(inventory).items()
        }
    )


def partitions_annotation(inventory: Inventory) -> str:
    """JSON: partition → how many nodes it has, and its limits; what is not limited is left out."""
    return _json(
        {
            name: _limits(partition, nodes=len(inventory.of(name).nodes))
            for name, partition in inventory.partitions.items()
        }
    )


def overlaps_annotation(inventory: Inventory, partition: str) -> str:
    """JSON: other partition → Slurm's nodes that are in this one, too; of many the first, and how
    many more."""
    found = overlaps(inventory, partition)
    most = MAX_SHARED if len(found) <= MAX_OVERLAPS else 0
    return _json({name: _first(shared, most) for name, shared in found.items()})


def _first(names: Sequence[str], most: int) -> list[str]:
    more = len(names) - most
    return [*names[:most], f"and {more} more"] if more > 0 else list(names)


def _limits(partition: Partition, *, nodes: int) -> Object:
    memory = {
        "maxMemoryPerNode": partition.max_memory_per_node,
        "maxMemoryPerCPU": partition.max_memory_per_cpu,
    }
    limits: Object = {
        "maxMinutes": partition.max_minutes,
        "maxCPUsPerNode": partition.max_cpus_per_node,
        "maxCPUsPerSocket": partition.max_cpus_per_socket,
        **{key: f"{value}Mi" for key, value in memory.items() if value is not None},
    }
    return {
        "nodes": nodes,
        "up": partition.up,
        **({"default": True} if partition.default else {}),
        **{key: value for key, value in limits.items() if value is not None},
    }


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def _resources(size: Capacity, config: Kubelet) -> Object:
    extended = {
        resource: str(size.gres[gres])
        for resource, gres in sorted(config.request.gres.items())
        if size.gres.get(gres)
    }
    return {
        "cpu": str(size.cpus),
        "memory": f"{size.memory}Mi",
        "pods": str(config.max_pods),
        **extended,
    }


def _replacing(before: Mapping[str, Any] | None, resources: Object) -> Object:
    """A merge keeps what it is not told of: None removes extended resources that are no more."""
    gone = [key for key in before or {} if "/" in key and key not in resources]
    return {**resources, **dict.fromkeys(gone)}


def _info(facts: Facts, before: Mapping[str, Any]) -> Object:
    runtime = f"slurm://{facts.slurm}" if facts.slurm else before.get("containerRuntimeVersion")
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "operatingSystem": "linux",
        "osImage": "Slurm cluster",
        "kernelVersion": platform.release(),
        "containerRuntimeVersion": runtime or "slurm://unknown",
        "kubeletVersion": f"v1.36.0-slurmlet-{facts.agent}",
        "kubeProxyVersion": "",
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
    }


def _unready(node: VirtualNode, facts: Facts, *, known: bool) -> str:
    """Why pods must not be bound to the node, or empty."""
    if not known:
        return "what Slurm has is not known yet; the node is ready when Slurm has answered once"
    if facts.inventory is None or not node.partition:
        return ""
    if node.partition in facts.inventory.partitions:
        return ""
    return (
        f"Slurm has no partition {node.partition!r}; put it back into slurm.conf, or take it out of"
        " kubelet.partitions"
    )


def _conditions(
    live: Mapping[str, Any], *, slurm_problem: str, unready: str, now: str
) -> list[Object]:
    before = {item["type"]: item for item in (live.get("status") or {}).get("conditions") or []}
    rows = [
        ("MemoryPressure", False, "SlurmHasMemory", "Slurm keeps jobs within their memory"),
        ("DiskPressure", False, "SlurmHasDisk", "Slurm watches the disks of its nodes"),
        ("PIDPressure", False, "SlurmHasPIDs", "Slurm keeps jobs apart in cgroups"),
        (
            "Ready",
            not unready,
            "KubeletNotReady" if unready else "KubeletReady",
            unready or "the agent posts status",
        ),
        (
            SLURM_CONDITION,
            not slurm_problem,
            "SlurmSilent" if slurm_problem else "SlurmAnswers",
            slurm_problem or "slurmctld answers",
        ),
    ]
    result = []
    for kind, holds, reason, message in rows:
        status = "True" if holds else "False"
        old = before.get(kind) or {}
        kept = old.get("status") == status and old.get("lastTransitionTime")
        result.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": kept or now,
            }
        )
    return result
