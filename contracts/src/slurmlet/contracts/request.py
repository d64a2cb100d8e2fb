"""Pod → Slurm job request (docs/contracts.md, Pod → job)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

from slurmlet.contracts.annotations import read_annotations
from slurmlet.contracts.names import (
    EARLY_SIGNAL_SECONDS,
    PARTITION_LABEL,
    job_comment,
    job_name,
)
from slurmlet.contracts.quantity import QuantityError, mib, parse

DEFAULT_GRACE_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPolicy:
    """The site's part of the translation; memory in MiB.

    `pod_overhead_memory` is added to every pod for its supervisor and its tmpfs;
    `gres` maps extended resources of Kubernetes to Slurm's generic resources.
    """

    default_cpus: int = 1
    default_memory: int = 256
    pod_overhead_memory: int = 64
    options: Mapping[str, str] = field(default_factory=dict)
    gres: Mapping[str, str] = field(
        default_factory=lambda: {"nvidia.com/gpu": "gpu", "amd.com/gpu": "gpu"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """sbatch's long options for a pod, and what its author must be told."""

    options: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What the broker turns into one sbatch call; `options` are long options without dashes."""

    namespace: str
    pod: str
    uid: str
    attempt: int
    options: Mapping[str, str]
    grace_seconds: int = DEFAULT_GRACE_SECONDS


def translate(pod: Mapping[str, Any], policy: RequestPolicy) -> Translation:
    """The job options of a pod: site default < derived from the spec < annotation."""
    asked = read_annotations(pod["metadata"].get("annotations") or {})
    errors = list(asked.errors)
    options: dict[str, str] = dict(policy.options)
    try:
        options |= _derived(pod["spec"], policy)
    except QuantityError as error:
        errors.append(f"spec.containers[*].resources: {error}")
    options |= asked.options
    # sbatch refuses two ways of saying one thing; what the author typed wins.
    if "mem-per-cpu" in asked.options and "mem" not in asked.options:
        options.pop("mem", None)
    if "gpus" in asked.options and "gres" not in asked.options:
        options.pop("gres", None)
    return Translation(options=options, warnings=asked.warnings, errors=tuple(errors))


def sbatch_argv(request: JobRequest, *, cluster: str, boot_output: str) -> list[str]:
    """Arguments of sbatch, the script comes on standard input; `boot_output` may contain %j."""
    options = {"nodes": "1", "ntasks": "1"} | dict(request.options)
    name = job_name(uid=request.uid, namespace=request.namespace, pod=request.pod)
    comment = job_comment(
        cluster=cluster,
        namespace=request.namespace,
        pod=request.pod,
        uid=request.uid,
        attempt=request.attempt,
    )
    return [
        "--parsable",
        "--no-requeue",
        "--export=ALL",
        "--propagate=NONE",
        "--chdir=/",
        "--input=/dev/null",
        f"--output={boot_output}",
        f"--job-name={name}",
        f"--comment={comment}",
        f"--signal=B:USR1@{max(request.grace_seconds, 1)}",
        *(f"--{key}={value}" if value else f"--{key}" for key, value in sorted(options.items())),
    ]


def grace_seconds(pod: Mapping[str, Any]) -> int:
    """The pod's termination grace in seconds, bounded by what --signal can say."""
    value = pod["spec"].get("terminationGracePeriodSeconds")
    return min(DEFAULT_GRACE_SECONDS if value is None else int(value), 65535)


def effective_resources(spec: Mapping[str, Any], kind: str) -> dict[str, Fraction]:
    """The pod's effective `requests` or `limits`: max of the containers' sum and the init
    containers' running maximum, where sidecars (restartable init containers) count from their
    start on (Kubernetes: Resource sharing within containers).

    Raises:
        QuantityError: a quantity that cannot be read.
    """
    sidecars: dict[str, Fraction] = {}
    peak: dict[str, Fraction] = {}
    for container in spec.get("initContainers") or ():
        own = _resources(container, kind)
        if container.get("restartPolicy") == "Always":
            sidecars = _combine(sidecars, own, sum)
            peak = _combine(peak, sidecars, max)
        else:
            peak = _combine(peak, _combine(sidecars, own, sum), max)
    total = sidecars
    for container in spec.get("containers") or ():
        total = _combine(total, _resources(container, kind), sum)
    pod_level = _resources(spec, kind)
    overhead = {name: parse(value) for name, value in (spec.get("overhead") or {}).items()}
    return _combine(_combine(total, peak, max) | pod_level, overhead, sum)


def _derived(spec: Mapping[str, Any], policy: RequestPolicy) -> dict[str, str]:
    requests = effective_resources(spec, "requests")
    limits = effective_resources(spec, "limits")
    cpu = requests.get("cpu") or limits.get("cpu") or Fraction(policy.default_cpus)
    every_limit = all(
        "memory" in ((container.get("resources") or {}).get("limits") or {})
        for container in spec.get("containers") or ()
    )
    memory = limits.get("memory") if every_limit else None
    memory = memory or requests.get("memory") or limits.get("memory")
    memory_mib = mib(memory) if memory else policy.default_memory
    options = {
        "cpus-per-task": str(max(1, ceil(cpu))),
        "mem": f"{memory_mib + policy.pod_overhead_memory}M",
    }
    gres = [
        f"{policy.gres[name]}:{ceil(amount)}"
        for name, amount in sorted((limits | requests).items())
        if name in policy.gres and amount
    ]
    if gres:
        options["gres"] = ",".join(gres)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline:
        # The grace comes after the deadline, and Slurm's own warning must not come before it.
        seconds = int(deadline) + grace_seconds({"spec": spec}) + EARLY_SIGNAL_SECONDS
        options["time"] = str(ceil(seconds / 60))
    partition = (spec.get("nodeSelector") or {}).get(PARTITION_LABEL)
    if partition:
        options["partition"] = str(partition)
    return options


def _resources(holder: Mapping[str, Any], kind: str) -> dict[str, Fraction]:
    resources = holder.get("resources") or {}
    named = {name: parse(value) for name, value in (resources.get(kind) or {}).items()}
    if kind == "requests":
        # The API server defaults requests to limits; a pod made by hand may lack that.
        limits = {name: parse(value) for name, value in (resources.get("limits") or {}).items()}
        return limits | named
    return named


def _combine(
    first: Mapping[str, Fraction], second: Mapping[str, Fraction], how: Any
) -> dict[str, Fraction]:
    zero = Fraction(0)
    keys: Iterable[str] = first.keys() | second.keys()
    return {key: how((first.get(key, zero), second.get(key, zero))) for key in keys}
