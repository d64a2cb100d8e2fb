"""The virtual node's object and status. Pure."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slurmlet.contracts.names import LARGEST_ANNOTATION, PREFIX, TAINT_KEY
from slurmlet.kubelet.config import Kubelet
from slurmlet.kubelet.slurm.capacity import Capacity, SlurmNode, largest, total

Object = dict[str, Any]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
SLURM_CONDITION = "SlurmReachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """What nodeInfo names."""

    agent: str
    slurm: str = ""


def new_node(config: Kubelet, *, cluster: str) -> Object:
    """The object that registers the node; its status follows separately."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    taints = [{"key": TAINT_KEY, "value": "", "effect": "NoSchedule"}] if config.taint else []
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.node_name,
            "labels": {
                "type": "virtual-kubelet",
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture,
                "kubernetes.io/hostname": config.node_name,
                # kubelet still sets both, and old manifests select by them.
                "beta.kubernetes.io/os": "linux",
                "beta.kubernetes.io/arch": architecture,
                f"{PREFIX}cluster": cluster,
            },
        },
        "spec": {"taints": taints},
    }


def metadata_patch(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Object | None:
    """A merge patch for labels that are missing or wrong, or None."""
    have = live["metadata"].get("labels") or {}
    labels = {
        key: value for key, value in wanted["metadata"]["labels"].items() if have.get(key) != value
    }
    return {"metadata": {"labels": labels}} if labels else None


def status_patch(
    live: Mapping[str, Any],
    config: Kubelet,
    *,
    nodes: Mapping[str, SlurmNode],
    slurm_problem: str,
    software: Software,
    now: str,
) -> Object:
    """A strategic merge patch of the node's status; `slurm_problem` is empty while Slurm answers.

    The node stays Ready while Slurm is silent: what runs goes on, and a node that is not Ready
    would take its pods out of every Service.
    """
    everything = dict(nodes)
    capacity = _resources(total(everything, usable_only=False), config)
    allocatable = _resources(total(everything, usable_only=True), config)
    return {
        "metadata": {"annotations": {LARGEST_ANNOTATION: largest_annotation(everything, config)}},
        "status": {
            "capacity": capacity,
            "allocatable": allocatable,
            "addresses": [
                {"type": "InternalIP", "address": config.address},
                {"type": "Hostname", "address": config.node_name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
            "nodeInfo": _info(software),
            "conditions": _conditions(live, slurm_problem=slurm_problem, now=now),
        },
    }


def largest_annotation(nodes: dict[str, SlurmNode], config: Kubelet) -> str:
    """JSON: partition → what its largest node has, in Kubernetes' quantities."""
    by_partition = {
        partition: {
            "cpu": str(size.cpus),
            "memory": f"{size.memory}Mi",
            "gres": {name: str(count) for name, count in sorted(size.gres.items())},
        }
        for partition, size in sorted(largest(nodes).items())
    }
    return json.dumps(by_partition, sort_keys=True)


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


def _info(software: Software) -> Object:
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "operatingSystem": "linux",
        "osImage": "Slurm cluster",
        "kernelVersion": platform.release(),
        "containerRuntimeVersion": f"slurm://{software.slurm or 'unknown'}",
        "kubeletVersion": f"v1.36.0-slurmlet-{software.agent}",
        "kubeProxyVersion": "",
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
    }


def _conditions(live: Mapping[str, Any], *, slurm_problem: str, now: str) -> list[Object]:
    before = {item["type"]: item for item in (live.get("status") or {}).get("conditions") or []}
    rows = [
        ("MemoryPressure", False, "SlurmHasMemory", "Slurm keeps jobs within their memory"),
        ("DiskPressure", False, "SlurmHasDisk", "Slurm watches the disks of its nodes"),
        ("PIDPressure", False, "SlurmHasPIDs", "Slurm keeps jobs apart in cgroups"),
        ("Ready", True, "KubeletReady", "the agent posts status"),
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
