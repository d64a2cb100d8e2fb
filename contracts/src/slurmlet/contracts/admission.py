"""Whether a pod can be honoured, and what its author must be told: the one judgement of webhook and
agent (docs/contracts.md, Admission). Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from slurmlet.contracts.identity import Identity, IdentityError, Restricted, allowed, permitted
from slurmlet.contracts.names import (
    ENGINE_ANNOTATION,
    INIT_ANNOTATION,
    INIT_VALUES,
    NAMESPACE_PREFIX,
    PARTITION_LABEL,
    PREFIX,
    setting,
)
from slurmlet.contracts.podfields import examine
from slurmlet.contracts.policy import Snapshot
from slurmlet.contracts.request import translate
from slurmlet.contracts.size import too_large

_RESTRICTED: tuple[Restricted, ...] = ("account", "partition", "qos")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`errors` refuse the pod, all of them at once. `options` are sbatch's, `partitions` those that
    the job may go to, none if Slurm's default decides. `user` is whom the namespace is mapped to;
    it and `engine` are empty if nothing is known of them."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    partitions: tuple[str, ...] = ()
    user: str = ""
    engine: str = ""


def judge(
    metadata: Mapping[str, Any],
    spec: Mapping[str, Any],
    *,
    namespace: str,
    policy: Snapshot,
    template: bool = False,
    partition: str = "",
) -> Verdict:
    """Everything about a pod, or about a template of pods, that can be said without asking anybody.

    The pods of a template may yet get defaults of their namespace, so where it names no partition
    it is refused only for what no partition can grant. `partition` is that of the pod's node, if it
    stands for one.
    """
    annotations = metadata.get("annotations") or {}
    fields = examine(spec)
    pod = {"metadata": metadata, "spec": spec}
    translation = translate(pod, policy.request, partition=partition)
    errors = [*fields.errors, *translation.errors]
    engine = setting(annotations, ENGINE_ANNOTATION) or "".join(policy.engines[:1])
    errors += _choices(annotations, engine=engine, engines=policy.engines)
    identity = None
    if policy.identities is not None:
        try:
            identity = policy.identities.lookup(namespace)
            errors += _not_permitted(identity, translation.options)
        except IdentityError as error:
            errors.append(str(error))
    among = _partitions(identity, translation.options, spec, template=template)
    large = too_large(translation.options, policy.sizes, among=among)
    if large and not translation.errors:
        errors.append(large)
    return Verdict(
        errors=tuple(errors),
        warnings=(*translation.warnings, *fields.warnings),
        options=translation.options,
        partitions=among,
        user=identity.user if identity else "",
        engine=engine,
    )


def _choices(
    annotations: Mapping[str, str], *, engine: str, engines: tuple[str, ...]
) -> Iterator[str]:
    if engines and engine not in engines:
        yield (
            f"annotation {_key(annotations, ENGINE_ANNOTATION)}: {engine[:40]!r} is not installed"
            f" here; use {' or '.join(engines)}"
        )
    init = setting(annotations, INIT_ANNOTATION)
    if init is not None and init not in INIT_VALUES:
        yield (
            f"annotation {_key(annotations, INIT_ANNOTATION)}: {init[:40]!r} is no choice;"
            f" use {' or '.join(INIT_VALUES)}"
        )


def _key(annotations: Mapping[str, str], key: str) -> str:
    """Where `setting` found a value."""
    return key if key in annotations else NAMESPACE_PREFIX + key.removeprefix(PREFIX)


def _not_permitted(identity: Identity, options: Mapping[str, str]) -> Iterator[str]:
    for option in _RESTRICTED:
        value = options.get(option)
        if value is not None and not permitted(identity, option, value):
            use = ", ".join(allowed(identity, option))
            yield f"{option} {value!r} is not permitted to this namespace; use {use}"


def _partitions(
    identity: Identity | None,
    options: Mapping[str, str],
    spec: Mapping[str, Any],
    *,
    template: bool,
) -> tuple[str, ...]:
    """The partitions that the job may go to; none if Slurm's default decides."""
    if "partition" in options:
        return tuple(options["partition"].split(","))
    chosen = _by_affinity(spec)
    if chosen is not None:
        return chosen
    listed = identity.partitions if identity else ()
    # Who names none gets the first that the map lists.
    return listed if template else listed[:1]


def _by_affinity(spec: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The partitions whose nodes a pod's affinity lets it go to; none if that may be any, and None
    if it does not speak of them."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    expressions = [
        expression
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
        if expression.get("key") == PARTITION_LABEL
    ]
    if not expressions:
        return None
    if any(expression.get("operator") != "In" for expression in expressions):
        return ()
    values = [value for expression in expressions for value in expression.get("values") or ()]
    return tuple(dict.fromkeys(values))
