"""Pod → Slurm job request (docs/contracts.md, Pod → job)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

from slurmlet.contracts.annotations import (
    Asked,
    meaning,
    option_problem,
    read_annotations,
    read_defaults,
)
from slurmlet.contracts.names import (
    EARLY_SIGNAL_SECONDS,
    PARTITION_LABEL,
    PREFIX,
    job_comment,
    job_name,
)
from slurmlet.contracts.quantity import QuantityError, mib, parse
from slurmlet.contracts.wording import several

DEFAULT_GRACE_SECONDS = 30
_ZERO = Fraction(0)
_OVERLAPPING = (("mem", "mem-per-cpu"), ("gres", "gpus"))
"""Two ways of saying one thing: sbatch refuses the first pair; of the second Slurm refuses another
number of GPUs by node than by job, where there is one node, and types beside none."""
_GPU = re.compile(r"(?:^|,)(?:gres/)?gpu(?![A-Za-z0-9_])")
"""GPUs among generic resources."""
_NATIVE = frozenset({"cpu", "memory", "ephemeral-storage"})
"""Resources that are not asked of Slurm as generic ones: its nodes share their disks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPolicy:
    """The site's part of the translation; memory in MiB.

    `pod_overhead_memory` is added to every pod for its supervisor and its tmpfs;
    `gres` maps extended resources of Kubernetes to Slurm's generic resources. `options` are
    defaults of sbatch's long options for all pods, `locks` their values whatever a pod asks for;
    a pod that asks for another is refused.
    """

    default_cpus: int = 1
    default_memory: int = 256
    pod_overhead_memory: int = 64
    options: Mapping[str, str] = field(default_factory=dict)
    locks: Mapping[str, str] = field(default_factory=dict)
    gres: Mapping[str, str] = field(default_factory=lambda: {"nvidia.com/gpu": "gpu"})


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


def policy_problems(policy: RequestPolicy) -> list[str]:
    """What is wrong with the site's own options, one line for each key."""
    return [
        f"request.{table}.{name}: {problem}"
        for table, options in (("options", policy.options), ("locks", policy.locks))
        for name, value in options.items()
        if (problem := option_problem(name, value))
    ]


def translate(pod: Mapping[str, Any], policy: RequestPolicy, *, partition: str = "") -> Translation:
    """The job options of a pod: site default < namespace default < derived from the spec <
    annotation < site lock < `partition`, that of the pod's node, if it stands for one."""
    annotations = pod["metadata"].get("annotations") or {}
    asked, defaults = read_annotations(annotations), read_defaults(annotations)
    errors = [*asked.errors, *defaults.errors, *_twice(asked), *_twice(defaults)]
    overhead: dict[str, Fraction] = {}
    derived: dict[str, str] = {}
    try:
        overhead = _overhead(pod["spec"])
        derived = _derived(pod["spec"], policy)
        errors += _unmapped(pod["spec"], policy, asked)
    except QuantityError as error:
        errors.append(f"spec.containers[*].resources: {error}")
    errors += _against_locks(asked, derived, policy)
    errors += _against_node(asked, derived, partition)
    options: dict[str, str] = {}
    node = {"partition": partition} if partition else {}
    site = _site(policy, overhead)
    for layer in (site, defaults.options, derived, asked.options, policy.locks, node):
        options = overlaid(options, layer)
    errors += _beyond_sbatch(options, derived)
    return Translation(
        options=options,
        warnings=(*asked.warnings, *defaults.warnings),
        errors=tuple(errors),
    )


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
        *(_argument(name, value) for name, value in sorted(options.items())),
    ]


def grace_seconds(pod: Mapping[str, Any]) -> int:
    """The pod's termination grace in seconds, bounded by what --signal can say."""
    value = pod["spec"].get("terminationGracePeriodSeconds")
    return min(DEFAULT_GRACE_SECONDS if value is None else int(value), 65535)


def effective_resources(spec: Mapping[str, Any], kind: str) -> dict[str, Fraction]:
    """The pod's effective `requests` or `limits`: max of the containers' sum and the init
    containers' running maximum, where sidecars (restartable init containers) count from their
    start on (Kubernetes: Resource sharing within containers). `overhead` is added to what they
    name; of what they do not name the site's default counts, with the overhead.

    Raises:
        QuantityError: a quantity that cannot be read.
    """
    # In place and only what a container names: a pod may have thousands of both.
    total: dict[str, Fraction] = {}
    peak: dict[str, Fraction] = {}
    for container in spec.get("initContainers") or ():
        for name, amount in _resources(container, kind).items():
            running = total.get(name, _ZERO) + amount
            peak[name] = max(peak.get(name, _ZERO), running)
            if container.get("restartPolicy") == "Always":
                total[name] = running
    for container in spec.get("containers") or ():
        _add(total, _resources(container, kind))
    for name, amount in peak.items():
        total[name] = max(total.get(name, _ZERO), amount)
    total |= _resources(spec, kind)
    for name, amount in _overhead(spec).items():
        if total.get(name):
            total[name] += amount
    return total


def _site(policy: RequestPolicy, overhead: Mapping[str, Fraction]) -> dict[str, str]:
    """The options of a pod that says nothing."""
    cpus = ceil(policy.default_cpus + overhead.get("cpu", _ZERO))
    memory = policy.default_memory + mib(overhead.get("memory", _ZERO)) + policy.pod_overhead_memory
    sizes = {"cpus-per-task": str(cpus), "mem": f"{memory}M"}
    return overlaid(sizes, policy.options)


def overlaid(options: Mapping[str, str], layer: Mapping[str, str]) -> dict[str, str]:
    """Options with those of a layer that wins over them."""
    hidden = {
        other
        for pair in _OVERLAPPING
        for one, other in (pair, pair[::-1])
        if one in layer and other not in layer
    }
    return {name: value for name, value in options.items() if name not in hidden} | dict(layer)


def _twice(asked: Asked) -> Iterator[str]:
    """A sentence for each thing that annotations ask for in two ways at once."""
    said = asked.options
    for one, other in _OVERLAPPING:
        if one not in said or other not in said:
            continue
        if one == "gres" and not _GPU.search(said[one]):
            continue
        yield (
            f"annotation {asked.keys[other]}: {_argument(other, said[other])}, but annotation"
            f" {asked.keys[one]} has {_argument(one, said[one])}; remove it"
        )


def _against_locks(
    asked: Asked, derived: Mapping[str, str], policy: RequestPolicy
) -> Iterator[str]:
    """A sentence for each option that the pod asks for, but not as the site has locked it. What
    follows from its resources and its deadline is no such wish."""
    wishes = _wishes(asked, derived)
    overlapping = {one: other for pair in _OVERLAPPING for one, other in (pair, pair[::-1])}
    for name, (where, value) in wishes.items():
        for locked in (name, overlapping.get(name, name)):
            if locked in policy.locks and not (
                locked == name and meaning(name, value) == meaning(name, policy.locks[name])
            ):
                yield (
                    f"{where}: {_argument(name, value)}, but the site gives every pod"
                    f" {_argument(locked, policy.locks[locked])}; remove it"
                )
                break


def _against_node(asked: Asked, derived: Mapping[str, str], partition: str) -> Iterator[str]:
    """A sentence if the pod names partitions, but not the one that its node stands for."""
    where, value = _wishes(asked, derived).get("partition", ("", partition))
    if partition and partition not in value.split(","):
        yield (
            f"{where}: --partition={value}, but the pod's node is partition {partition}; remove it,"
            f" or choose the node by spec.nodeSelector[{PARTITION_LABEL}]"
        )


def _wishes(asked: Asked, derived: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Option → where the pod itself asks for it, and its value."""
    wishes = {name: (f"annotation {asked.keys[name]}", v) for name, v in asked.options.items()}
    if "partition" in derived:
        wishes.setdefault(
            "partition", (f"spec.nodeSelector[{PARTITION_LABEL}]", derived["partition"])
        )
    return wishes


def _beyond_sbatch(options: Mapping[str, str], derived: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each option that follows from the spec and that the broker would refuse."""
    places = {
        "partition": f"spec.nodeSelector[{PARTITION_LABEL}]",
        "time": "spec.activeDeadlineSeconds",
    }
    for name, value in derived.items():
        problem = option_problem(name, value) if options.get(name) == value else None
        if problem:
            yield f"{places.get(name, 'spec.containers[*].resources')}: {problem}"


def _unmapped(spec: Mapping[str, Any], policy: RequestPolicy, asked: Asked) -> Iterator[str]:
    """A sentence for extended resources that Slurm knows nothing of: a kubelet would not get such a
    pod, and here it would run without them. Who asks Slurm for gres has said what to do."""
    if "gres" in asked.options:
        return
    known = _NATIVE | policy.gres.keys()
    places = []
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            found = _resources(container, "requests")
            unknown = [name for name in sorted(found) if name not in known and found[name]]
            if unknown:
                places.append(f"spec.{kind}[{container['name']}].resources {', '.join(unknown)}")
    if places:
        mapped = ", ".join(sorted(policy.gres)) or "none"
        yield (
            f"{several(places)}: no resource of this site, which has {mapped}; remove it, or say"
            f" what to ask of Slurm with the annotation {PREFIX}gres"
        )


def _derived(spec: Mapping[str, Any], policy: RequestPolicy) -> dict[str, str]:
    """The options that follow from what a spec says."""
    requests = effective_resources(spec, "requests")
    limits = effective_resources(spec, "limits")
    options: dict[str, str] = {}
    cpu = requests.get("cpu") or limits.get("cpu")
    if cpu:
        options["cpus-per-task"] = str(max(1, ceil(cpu)))
    memory = requests.get("memory", _ZERO)
    if not memory or _memory_is_limited(spec):
        # An init container without a limit may request more than the limits of the others allow.
        memory = max(memory, limits.get("memory", _ZERO))
    if memory:
        options["mem"] = f"{mib(memory) + policy.pod_overhead_memory}M"
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


def _memory_is_limited(spec: Mapping[str, Any]) -> bool:
    """Whether the memory of everything that runs together has a limit: the pod's own, or one for
    each container and sidecar. Of what has none, nobody knows how much it takes."""
    first = spec.get("initContainers") or ()
    sidecars = (item for item in first if item.get("restartPolicy") == "Always")
    together = (*(spec.get("containers") or ()), *sidecars)
    # As for Kubernetes, 0 is no limit.
    return bool(_resources(spec, "limits").get("memory")) or all(
        _resources(container, "limits").get("memory") for container in together
    )


def _argument(name: str, value: str) -> str:
    return f"--{name}={value}" if value else f"--{name}"


def _resources(holder: Mapping[str, Any], kind: str) -> dict[str, Fraction]:
    resources = holder.get("resources") or {}
    named = {name: parse(value) for name, value in (resources.get(kind) or {}).items()}
    if kind == "requests":
        # The API server defaults requests to limits; a pod made by hand may lack that.
        limits = {name: parse(value) for name, value in (resources.get("limits") or {}).items()}
        return limits | named
    return named


def _overhead(spec: Mapping[str, Any]) -> dict[str, Fraction]:
    """What the pod's RuntimeClass takes beside its containers."""
    return {name: parse(value) for name, value in (spec.get("overhead") or {}).items()}


def _add(total: dict[str, Fraction], more: Mapping[str, Fraction]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, _ZERO) + amount
