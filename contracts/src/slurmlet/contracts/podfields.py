"""What becomes of each field of a Pod: one table for webhook and agent, so that nobody is told one
thing at `kubectl apply` and another by events (docs/annotations.md, Fields of pods).

A path stands for all below it that no longer path has. `containers[*]` are init containers, too,
and `*` is every key that has no path of its own. Behind `=` stands the one value that is meant.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from slurmlet.contracts.wording import several

Object = Mapping[str, Any]
When = Callable[[Any, str, Object], bool]
"""Whether a rule is about this value, at this place, in this spec."""


def _is_set(value: Any, _place: str, _spec: Object) -> bool:
    return bool(value)


def _is_there(value: Any, _place: str, _spec: Object) -> bool:
    return value is not None


def _restarts_otherwise(value: Any, place: str, spec: Object) -> bool:
    if place.endswith(".restartPolicyRules"):
        return bool(value)
    sidecar = value == "Always" and place.startswith("spec.initContainers[")
    return bool(value) and not sidecar and value != (spec.get("restartPolicy") or "Always")


def _is_not_true_anyway(value: Any, _place: str, spec: Object) -> bool:
    """The API server sets hostPort for every port of a pod in its node's network."""
    return bool(value) and not spec.get("hostNetwork")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Fields that the agent refuses, or accepts and ignores. `says` follows the places where they
    were found, and has the remedy."""

    fields: tuple[str, ...]
    says: str
    when: When = _is_set


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the fields of a pod's spec are refused for, and what its author must be told."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

REFUSALS: tuple[Rule, ...] = (
    Rule(
        fields=("spec.hostPID", "spec.hostIPC"),
        says="a pod shares no processes and no IPC with its node; remove it",
    ),
    Rule(
        fields=("spec.os.name=windows",),
        says="Slurm's nodes run Linux; use an image for Linux, and remove it",
    ),
    Rule(
        fields=("spec.resourceClaims", "spec.containers[*].resources.claims"),
        says=(
            "devices are not claimed from drivers here; ask with an extended resource such as"
            " nvidia.com/gpu, or the annotation slurmlet.io/gres"
        ),
    ),
    Rule(
        fields=(
            "spec.volumes[*].*",
            "spec.volumes[*].projected.sources[*].*",
            "spec.containers[*].volumeDevices",
        ),
        says=(
            "volumes are emptyDir, configMap, secret, downwardAPI, and projected of these and"
            " serviceAccountToken; use one of them"
        ),
        when=_is_there,
    ),
    Rule(
        fields=("spec.volumes[*].emptyDir.medium=HugePages*",),
        says="pods have no huge pages; use Memory, or leave it out",
    ),
    Rule(
        fields=("spec.containers[*].securityContext.privileged",),
        says=(
            "a pod has no power over its node; remove it, or add single capabilities, which hold"
            " inside the pod"
        ),
    ),
    Rule(
        fields=("spec.containers[*].restartPolicy", "spec.containers[*].restartPolicyRules"),
        says="a container restarts as its pod does; use spec.restartPolicy",
        when=_restarts_otherwise,
    ),
    Rule(
        fields=("spec.containers[*].env[*].valueFrom.fileKeyRef",),
        says="variables are not read from files of a volume; use configMapKeyRef or secretKeyRef",
    ),
)

WARNINGS: tuple[Rule, ...] = (
    Rule(
        fields=(
            "spec.containers[*].livenessProbe",
            "spec.containers[*].readinessProbe",
            "spec.containers[*].startupProbe",
        ),
        says=(
            "probes are not run, a container is ready as soon as it runs; let the program end when"
            " it fails"
        ),
    ),
    Rule(
        fields=("spec.containers[*].lifecycle",),
        says=(
            "hooks are not run, and the signal to stop is the image's; let the program do it at its"
            " start and on SIGTERM"
        ),
    ),
    Rule(
        fields=("spec.containers[*].ports[*].hostPort",),
        says="nothing forwards ports of nodes; use a Service, the pod's address, or hostNetwork",
        when=_is_not_true_anyway,
    ),
    Rule(
        fields=("spec.containers[*].stdin", "spec.containers[*].tty"),
        says=(
            "nothing attaches to a container, whose input is empty; for a terminal use srun --pty"
            " --k8s-pod=NAMESPACE/POD"
        ),
    ),
    Rule(
        fields=("spec.priorityClassName",),
        says="Slurm has its own priorities; use the annotation slurmlet.io/qos or slurmlet.io/nice",
    ),
    Rule(
        fields=("spec.runtimeClassName",),
        says="the site's engine runs containers; choose one with the annotation slurmlet.io/engine",
    ),
    Rule(
        fields=(
            f"spec.affinity.podAffinity.{_REQUIRED}",
            f"spec.affinity.podAntiAffinity.{_REQUIRED}",
            "spec.topologySpreadConstraints[*].whenUnsatisfiable=DoNotSchedule",
            "spec.schedulingGroup",
        ),
        says=(
            "Slurm places and starts each pod by itself; use the annotation slurmlet.io/constraint,"
            " or slurmlet.io/exclusive for a node without other jobs"
        ),
    ),
    Rule(
        fields=(
            "spec.securityContext.sysctls",
            "spec.securityContext.supplementalGroupsPolicy=Strict",
            "spec.securityContext.seccompProfile.localhostProfile",
            "spec.securityContext.appArmorProfile.localhostProfile",
            "spec.securityContext.seLinuxOptions",
            "spec.securityContext.windowsOptions",
            "spec.containers[*].securityContext.procMount=Unmasked",
            "spec.containers[*].securityContext.seccompProfile.localhostProfile",
            "spec.containers[*].securityContext.appArmorProfile.localhostProfile",
            "spec.containers[*].securityContext.seLinuxOptions",
            "spec.containers[*].securityContext.windowsOptions",
        ),
        says=(
            "not applied: a container has its user's rights and its node's settings; remove it, or"
            " ask the administrator"
        ),
    ),
    Rule(
        fields=("spec.shareProcessNamespace",),
        says=(
            "containers do not see each other's processes; let them talk over localhost or an"
            " emptyDir"
        ),
    ),
    Rule(
        fields=("spec.ephemeralContainers",),
        says="no container is added to a pod; look into it with srun --k8s-pod=NAMESPACE/POD",
    ),
)

HARMLESS: Mapping[str, str] = {
    f"spec.affinity.nodeAffinity.{_PREFERRED}": "all machines are behind one node",
    f"spec.affinity.podAffinity.{_PREFERRED}": "a preference; Slurm places pods",
    f"spec.affinity.podAntiAffinity.{_PREFERRED}": "a preference; Slurm places pods",
    "spec.topologySpreadConstraints[*]": "with ScheduleAnyway a preference; Slurm places pods",
    "spec.enableServiceLinks": "headless Services have no such variables anywhere",
    "spec.hostUsers": "a pod has a user namespace of its own in any case",
    "spec.preemptionPolicy": "every pod has it; Slurm has rules of its own",
    "spec.priority": "every pod has it; Slurm has priorities of its own",
    "spec.securityContext.fsGroupChangePolicy": "volumes are made anew for each pod",
    "spec.securityContext.seLinuxChangePolicy": "nothing is labelled",
    "spec.securityContext.seccompProfile.type": "a container has its user's rights",
    "spec.securityContext.appArmorProfile.type": "a container has its user's rights",
    "spec.containers[*].securityContext.seccompProfile.type": "a container has its user's rights",
    "spec.containers[*].securityContext.appArmorProfile.type": "a container has its user's rights",
    "spec.containers[*].ports[*].hostIP": "said of hostPort",
    "spec.containers[*].resizePolicy": "every pod has it; a job is not resized",
    "spec.containers[*].stdinOnce": "said of stdin",
    "spec.containers[*].volumeMounts[*].mountPropagation": "nothing is mounted below a volume",
    "spec.containers[*].volumeMounts[*].recursiveReadOnly": "nothing is mounted below a volume",
}
"""Ignored without a word, because nobody would notice or every manifest has it."""

HONOURED: Mapping[str, str] = {
    "apiVersion": "",
    "kind": "",
    "metadata": "annotations as on this page",
    "spec.activeDeadlineSeconds": "counts from the start of the job, not from the queue",
    f"spec.affinity.nodeAffinity.{_REQUIRED}": "of the virtual node",
    "spec.automountServiceAccountToken": "",
    "spec.dnsConfig": "",
    "spec.dnsPolicy": "",
    "spec.hostAliases": "",
    "spec.hostNetwork": "",
    "spec.hostname": "",
    "spec.hostnameOverride": "",
    "spec.imagePullSecrets": "",
    "spec.nodeName": "",
    "spec.nodeSelector": "of the virtual node; `slurmlet.io/partition` is a partition of Slurm",
    "spec.overhead": "",
    "spec.readinessGates": "",
    "spec.resources": "",
    "spec.restartPolicy": "",
    "spec.schedulerName": "a pod of another scheduler is left alone",
    "spec.schedulingGates": "",
    "spec.securityContext.fsGroup": "",
    "spec.securityContext.runAsGroup": "",
    "spec.securityContext.runAsNonRoot": "",
    "spec.securityContext.runAsUser": "an id inside the pod; the job's user is the namespace's",
    "spec.securityContext.supplementalGroups": "inside the pod",
    "spec.serviceAccount": "",
    "spec.serviceAccountName": "",
    "spec.setHostnameAsFQDN": "",
    "spec.subdomain": "",
    "spec.terminationGracePeriodSeconds": "",
    "spec.tolerations": "an agent that is away is tolerated for ever",
    "spec.volumes[*].name": "",
    "spec.volumes[*].emptyDir": "`sizeLimit` only of `medium: Memory`",
    "spec.volumes[*].configMap": "as it is at the pod's start",
    "spec.volumes[*].secret": "as it is at the pod's start",
    "spec.volumes[*].downwardAPI": "as it is at the pod's start",
    "spec.volumes[*].projected.defaultMode": "",
    "spec.volumes[*].projected.sources[*].configMap": "as it is at the pod's start",
    "spec.volumes[*].projected.sources[*].secret": "as it is at the pod's start",
    "spec.volumes[*].projected.sources[*].downwardAPI": "as it is at the pod's start",
    "spec.volumes[*].projected.sources[*].serviceAccountToken": "not renewed",
    "spec.containers[*].args": "",
    "spec.containers[*].command": "",
    "spec.containers[*].env[*].name": "",
    "spec.containers[*].env[*].value": "",
    "spec.containers[*].env[*].valueFrom.configMapKeyRef": "",
    "spec.containers[*].env[*].valueFrom.fieldRef": "",
    "spec.containers[*].env[*].valueFrom.resourceFieldRef": "",
    "spec.containers[*].env[*].valueFrom.secretKeyRef": "",
    "spec.containers[*].envFrom": "",
    "spec.containers[*].image": "",
    "spec.containers[*].imagePullPolicy": "",
    "spec.containers[*].name": "",
    "spec.containers[*].ports[*].containerPort": "",
    "spec.containers[*].ports[*].name": "",
    "spec.containers[*].ports[*].protocol": "",
    "spec.containers[*].resources.limits": (
        "for the sum of the pod; memory is the job's, and nothing bursts above it"
    ),
    "spec.containers[*].resources.requests": (
        "CPU, and memory where a limit is missing; extended resources that the site maps;"
        " `ephemeral-storage` counts nothing"
    ),
    "spec.containers[*].securityContext.allowPrivilegeEscalation": "",
    "spec.containers[*].securityContext.capabilities": "inside the pod; `ALL` adds none",
    "spec.containers[*].securityContext.readOnlyRootFilesystem": "",
    "spec.containers[*].securityContext.runAsGroup": "",
    "spec.containers[*].securityContext.runAsNonRoot": "",
    "spec.containers[*].securityContext.runAsUser": "an id inside the pod",
    "spec.containers[*].terminationMessagePath": "",
    "spec.containers[*].terminationMessagePolicy": "",
    "spec.containers[*].volumeMounts[*].mountPath": "",
    "spec.containers[*].volumeMounts[*].name": "",
    "spec.containers[*].volumeMounts[*].readOnly": "",
    "spec.containers[*].volumeMounts[*].subPath": "",
    "spec.containers[*].volumeMounts[*].subPathExpr": "",
    "spec.containers[*].workingDir": "",
}
"""What works, and where it means less or more than on an ordinary node."""

_CONTAINERS = ("initContainers", "containers")


def examine(spec: Object) -> Findings:
    """A sentence for each rule that a pod's spec meets, with all places where it does."""
    return Findings(
        errors=tuple(said for rule in REFUSALS if (said := _say(rule, spec))),
        warnings=tuple(said for rule in WARNINGS if (said := _say(rule, spec))),
    )


def _say(rule: Rule, spec: Object) -> str:
    places = [
        _shown(place, value)
        for field in rule.fields
        for place, value in _find(spec, field)
        if rule.when(value, place, spec)
    ]
    return f"{several(places)}: {rule.says}" if places else ""


def _shown(place: str, value: Any) -> str:
    plain = isinstance(value, str | int) and not isinstance(value, bool)
    return f"{place} {str(value)[:40]}" if plain else place


def _find(spec: Object, field: str) -> Iterator[tuple[str, Any]]:
    """Where in a spec a field of the table is, and what it says."""
    path, _, word = field.partition("=")
    for place, value in _walk(spec, path.split(".")[1:], place="spec", path="spec"):
        if not word or fnmatchcase(str(value), word):
            yield place, value


def _walk(item: Any, parts: list[str], *, place: str, path: str) -> Iterator[tuple[str, Any]]:
    if not parts:
        yield place, item
        return
    if not isinstance(item, Mapping):
        return
    name, rest = parts[0], parts[1:]
    keys = [name.removesuffix("[*]")]
    if name == "*":
        keys = [key for key in sorted(item) if not _is_honoured(f"{path}.{key}")]
    elif name == "containers[*]":
        keys = list(_CONTAINERS)
    path = f"{path}.{name}"
    for key in keys:
        below = item.get(key)
        if not name.endswith("[*]"):
            if key in item:
                yield from _walk(below, rest, place=f"{place}.{key}", path=path)
            continue
        for index, each in enumerate(below if isinstance(below, list) else ()):
            label = each.get("name", index) if isinstance(each, Mapping) else index
            yield from _walk(each, rest, place=f"{place}.{key}[{label}]", path=path)


def _is_honoured(path: str) -> bool:
    return any(known == path or known.startswith(f"{path}.") for known in HONOURED)
