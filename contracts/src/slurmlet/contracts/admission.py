"""Whether a pod can be honoured, and what its author must be told: the one judgement of webhook and
agent (docs/contracts.md, Admission). Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from slurmlet.contracts.annotations import read_annotations, read_defaults
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
from slurmlet.contracts.request import RequestPolicy, translate
from slurmlet.contracts.selection import chosen_partitions
from slurmlet.contracts.size import asking, too_large
from slurmlet.contracts.wording import several

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
    identity, unmapped = None, []
    if policy.identities is not None:
        try:
            identity = policy.identities.lookup(namespace)
        except IdentityError as error:
            unmapped = [str(error)]
    translation = translate(pod, _for(identity, policy.request), partition=partition)
    errors = [*fields.errors, *translation.errors]
    engine = setting(annotations, ENGINE_ANNOTATION) or "".join(policy.engines[:1])
    errors += _choices(annotations, engine=engine, engines=policy.engines)
    errors += unmapped
    wrong = [*_not_permitted(identity, translation.options)] if identity else []
    among = _partitions(identity, translation.options, spec, nodes=policy.nodes, template=template)
    large = too_large(translation.options, policy.sizes, among=among)
    if large:
        wrong.append((asking(translation.options, policy.sizes, among=among), large))
    if wrong:
        places = _places(pod, translation.options, policy.request, partition=partition)
        errors += (f"{several(list(dict.fromkeys(map(places, of))))}: {why}" for of, why in wrong)
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


def _for(identity: Identity | None, request: RequestPolicy) -> RequestPolicy:
    """The site's part without the defaults that the map does not let a namespace have: who asks for
    nothing then gets the first that it lists."""
    options = {
        name: value
        for name, value in request.options.items()
        if not identity or name not in _RESTRICTED or permitted(identity, name, value)
    }
    return request if options == request.options else replace(request, options=options)


def _not_permitted(
    identity: Identity, options: Mapping[str, str]
) -> Iterator[tuple[list[str], str]]:
    """Options, each with what is said of it."""
    for option in _RESTRICTED:
        value = options.get(option)
        if value is not None and not permitted(identity, option, value):
            use = ", ".join(allowed(identity, option))
            yield [option], f"{option} {value!r} is not permitted to this namespace; use {use}"


def _places(
    pod: Mapping[str, Any], options: Mapping[str, str], request: RequestPolicy, *, partition: str
) -> Callable[[str], str]:
    """The field that an option of a pod's translation is from."""
    annotations = pod["metadata"].get("annotations") or {}
    asked, defaults = read_annotations(annotations), read_defaults(annotations)
    selects = PARTITION_LABEL in (pod["spec"].get("nodeSelector") or {})

    def place(option: str) -> str:
        if partition and option == "partition":
            return "spec.nodeName"
        if option in request.locks:
            return f"request.locks.{option} (the administrator's)"
        if option in asked.keys:
            return f"annotation {asked.keys[option]}"
        if option == "partition" and selects:
            return f"spec.nodeSelector[{PARTITION_LABEL}]"
        # What follows from the spec goes over a namespace's default.
        if defaults.options.get(option) == options[option]:
            return f"annotation {defaults.keys[option]}"
        return "spec.containers[*].resources"

    return place


def _partitions(
    identity: Identity | None,
    options: Mapping[str, str],
    spec: Mapping[str, Any],
    *,
    nodes: Mapping[str, str],
    template: bool,
) -> tuple[str, ...]:
    """The partitions that the job may go to; none if Slurm's default decides."""
    asked = tuple(options["partition"].split(",")) if "partition" in options else ()
    chosen = chosen_partitions(spec, nodes)
    if asked and not (chosen and any(nodes.values())):
        return asked
    if chosen is not None:
        # On the node of a partition a job gets that one.
        return tuple(name for name in chosen if name in asked) or chosen
    listed = identity.partitions if identity else ()
    # Who names none gets the first that the map lists.
    return listed if template else listed[:1]
