"""Pods get our scheduler, the toleration of our taint and their effective Slurm request.

The request is for the user to read. The agent computes its own from the pod at submission, so
nothing that a user writes here can widen what the job may have.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any

from slurmlet.contracts.admission import Verdict, judge
from slurmlet.contracts.aliases import OUR_SCHEDULERS, SCHEDULER_ALIASES, SELECTOR_ALIASES
from slurmlet.contracts.names import (
    PARTITION_LABEL,
    REQUEST_ANNOTATION,
    SCHEDULER_NAME,
    STATUS_PREFIX,
    TAINT_KEY,
)
from slurmlet.contracts.policy import Snapshot
from slurmlet.contracts.selection import chosen_partitions
from slurmlet.contracts.wording import in_one, some
from slurmlet.webhook.decision import UNCHANGED, Decision, Object, Op, add, metadata, remove
from slurmlet.webhook.managedfields import overriding

OVERRIDDEN = ("schedulerName", "nodeSelector", "tolerations")
"""Fields of a spec that we change."""
_MIRROR = "kubernetes.io/config.mirror"
_NODES_GROUP = "system:nodes"
_NODES_USER = "system:node:"
_AWAY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_DEFAULT_SECONDS = 300
"""What the API server's DefaultTolerationSeconds writes before any webhook is called."""


def mutate(request: Object, policy: Snapshot) -> Decision:
    """The decision on the CREATE or UPDATE of a pod, given an AdmissionRequest."""
    pod = request["object"]
    if not is_ours(pod, policy.nodes):
        return UNCHANGED
    if request["operation"] == "UPDATE":
        return _update(request, pod, request.get("oldObject") or {}, policy)
    if request["operation"] != "CREATE":
        return UNCHANGED
    verdict = judge(
        pod.get("metadata") or {},
        pod["spec"],
        namespace=request.get("namespace") or "",
        policy=policy,
        partition=policy.nodes.get(pod["spec"].get("nodeName") or "", ""),
    )
    if verdict.errors:
        return Decision(denial=in_one(verdict.errors), warnings=verdict.warnings)
    partition = _partition(pod["spec"], verdict, policy)
    # The node's partition is the job's; said at once, so that a second call says no more.
    options = {**verdict.options, **({"partition": partition} if partition else {})}
    text = json.dumps(options, sort_keys=True, separators=(",", ":"))
    tolerations, toleration_warnings = _tolerations(pod["spec"])
    patch = [
        *_annotations(pod, text),
        *_scheduler(pod["spec"]),
        *_selector(pod["spec"], partition=partition),
        *tolerations,
    ]
    return Decision(
        patch=overriding(pod, patch),
        warnings=(
            *verdict.warnings,
            *some(
                f"annotation {key[:80]} is written by slurmlet only; removed"
                for key in _forged(pod)
            ),
            *_alias_warnings(pod["spec"]),
            *some(toleration_warnings),
        ),
    )


def is_ours(pod: Object, nodes: Collection[str]) -> bool:
    """Whether a pod goes to Slurm: by our scheduler, by one that nobody chose, or because it is
    bound by hand to one of our nodes, which have these names. Those of other schedulers, of other
    nodes, of DaemonSets for other nodes and of a kubelet's files are left alone."""
    spec = pod.get("spec") or {}
    if _MIRROR in metadata(pod, "annotations"):
        return False
    if spec.get("nodeName"):
        return spec["nodeName"] in nodes
    if (spec.get("schedulerName") or "") not in OUR_SCHEDULERS:
        return False
    return not _is_daemon_elsewhere(pod, spec, nodes)


def _is_daemon_elsewhere(pod: Object, spec: Object, nodes: Collection[str]) -> bool:
    """DaemonSets pin each pod to its node by the name, in every term."""
    owners = (pod.get("metadata") or {}).get("ownerReferences") or ()
    if not any(owner.get("kind") == "DaemonSet" for owner in owners):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or ()
    return bool(terms) and all(_names_another_node(term, nodes) for term in terms)


def _names_another_node(term: Object, nodes: Collection[str]) -> bool:
    return any(
        field.get("key") == "metadata.name"
        and field.get("operator") == "In"
        and not set(nodes) & set(field.get("values") or ())
        for field in term.get("matchFields") or ()
    )


def _update(request: Object, pod: Object, old: Object, policy: Snapshot) -> Decision:
    """What only we write stays as it was, unless a node writes it: the agent, and kubelets. What a
    manifest says that is applied again is changed as it was at first, because the API server
    refuses to change it back."""
    user = request.get("userInfo") or {}
    is_node = str(user.get("username")).startswith(_NODES_USER)
    if is_node and _NODES_GROUP in (user.get("groups") or ()):
        return UNCHANGED
    spec = _news(pod["spec"], old.get("spec") or {})
    changed = _changed(pod, old)
    tolerations, warnings = _tolerations(spec) if "tolerations" in spec else ([], [])
    scheduler = _scheduler(spec) if "schedulerName" in spec else []
    chosen = ((old.get("spec") or {}).get("nodeSelector") or {}).get(PARTITION_LABEL, "")
    partition = chosen if any(policy.nodes.values()) else ""
    selector = _selector(spec, partition=partition) if "nodeSelector" in spec else []
    return Decision(
        patch=overriding(pod, [*_kept(pod, old, changed), *scheduler, *selector, *tolerations]),
        warnings=(
            # A replace with the manifest leaves them out and means no harm.
            *some(
                f"annotation {key[:80]} is written by slurmlet only; kept as it was"
                for key in changed
                if key in _written(pod)
            ),
            *_alias_warnings(spec),
            *some(warnings),
        ),
    )


def _news(spec: Object, old: Object) -> Object:
    """What we change of a spec, where it is not as it was."""
    return {name: spec.get(name) for name in OVERRIDDEN if spec.get(name) != old.get(name)}


def _changed(pod: Object, old: Object) -> list[str]:
    """Keys of annotations that only we write, and that have another value now."""
    before, after = _written(old), _written(pod)
    return [key for key in sorted(before | after) if before.get(key) != after.get(key)]


def _kept(pod: Object, old: Object, changed: list[str]) -> list[Op]:
    before = _written(old)
    if changed and not metadata(pod, "annotations"):
        return [add("metadata", "annotations", value=before)]
    return [
        add("metadata", "annotations", key, value=before[key])
        if key in before
        else remove("metadata", "annotations", key)
        for key in changed
    ]


def _written(pod: Object) -> dict[str, str]:
    """The annotations that only we write."""
    annotations = metadata(pod, "annotations")
    return {key: value for key, value in annotations.items() if key.startswith(STATUS_PREFIX)}


def _annotations(pod: Object, request: str) -> list[Op]:
    annotations = metadata(pod, "annotations")
    if not annotations:
        return [add("metadata", "annotations", value={REQUEST_ANNOTATION: request})]
    ops = [remove("metadata", "annotations", key) for key in _forged(pod)]
    if annotations.get(REQUEST_ANNOTATION) != request:
        ops.append(add("metadata", "annotations", REQUEST_ANNOTATION, value=request))
    return ops


def _forged(pod: Object) -> list[str]:
    """What a user wrote of ours; the request is left out, because it is overwritten anyway."""
    return [key for key in _written(pod) if key != REQUEST_ANNOTATION]


def _scheduler(spec: Object) -> list[Op]:
    name = spec.get("schedulerName") or ""
    if name != SCHEDULER_NAME and name in OUR_SCHEDULERS:
        return [add("spec", "schedulerName", value=SCHEDULER_NAME)]
    return []


def _partition(spec: Object, verdict: Verdict, policy: Snapshot) -> str:
    """The partition whose node a pod needs, where each has a node: what follows from annotations
    and from the identity map the scheduler does not know. Who chooses among these nodes by affinity
    or by a name has chosen."""
    if not any(policy.nodes.values()) or spec.get("nodeName"):
        return ""
    if chosen_partitions(spec, policy.nodes) is not None:
        return ""
    selected = (spec.get("nodeSelector") or {}).get(PARTITION_LABEL)
    if selected:
        return str(selected)
    served = [name for name in verdict.partitions if name in policy.nodes.values()]
    return "".join((served or verdict.partitions)[:1])


def _selector(spec: Object, *, partition: str = "") -> list[Op]:
    """As a whole, because its managers own it so (the API's schema: an atomic map)."""
    foreign = _foreign_selectors(spec)
    before = spec.get("nodeSelector") or {}
    after = {key: value for key, value in before.items() if key not in foreign}
    if partition:
        after.setdefault(PARTITION_LABEL, partition)
    if after == before:
        return []
    return [add("spec", "nodeSelector", value=after) if after else remove("spec", "nodeSelector")]


def _foreign_selectors(spec: Object) -> list[str]:
    selector = spec.get("nodeSelector") or {}
    return [key for key, value in SELECTOR_ALIASES.items() if selector.get(key) == value]


def _alias_warnings(spec: Object) -> Iterator[str]:
    if spec.get("schedulerName") in SCHEDULER_ALIASES:
        yield f"spec.schedulerName {spec['schedulerName']} is deprecated; use {SCHEDULER_NAME}"
    for key in _foreign_selectors(spec):
        yield f"spec.nodeSelector {key} {SELECTOR_ALIASES[key]}: no node has it; removed"


def _tolerations(spec: Object) -> tuple[list[Op], list[str]]:
    """Tolerates our taint, and an agent that is away for as long as it takes: the jobs of its
    pods go on, so their eviction would kill what is alive."""
    before: list[dict[str, Any]] = spec.get("tolerations") or []
    warnings = []
    after = []
    for toleration in before:
        key, seconds = toleration.get("key"), toleration.get("tolerationSeconds")
        if seconds is None or not (key in _AWAY or _is_catch_all(toleration)):
            after.append(toleration)
            continue
        after.append({k: v for k, v in toleration.items() if k != "tolerationSeconds"})
        if seconds != _DEFAULT_SECONDS or not key:
            warnings.append(
                f"spec.tolerations: tolerationSeconds {seconds} of {key or 'every taint'} was"
                " removed, because the jobs of pods go on while the node's agent is away"
            )
    if not any(_covers_taint(toleration) for toleration in after):
        after.append({"key": TAINT_KEY, "operator": "Exists", "effect": "NoSchedule"})
    return ([add("spec", "tolerations", value=after)] if after != before else []), warnings


def _is_catch_all(toleration: Object) -> bool:
    """Whether it tolerates a silent node with everything else: of several the shortest counts."""
    return (
        not toleration.get("key")
        and toleration.get("operator") == "Exists"
        and toleration.get("effect") in (None, "", "NoExecute")
    )


def _covers_taint(toleration: Object) -> bool:
    return (
        toleration.get("key") in (None, "", TAINT_KEY)
        and toleration.get("operator") == "Exists"
        and toleration.get("effect") in (None, "", "NoSchedule")
    )
