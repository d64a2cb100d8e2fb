"""Which nodes a pod names: nodeSelector, required node affinity, its partition. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from slurmlet.contracts.names import PARTITION_LABEL
from slurmlet.contracts.wording import several
from slurmlet.scheduler.affinity import required_terms_match
from slurmlet.scheduler.partitions import labels, largest, own_partition

Object = Mapping[str, Any]
Wishes = Mapping[str, Callable[[Object], bool]]
"""What a pod wants of its node → whether a node is so."""

_AFFINITY = "spec.affinity.nodeAffinity"
_SELECTOR = "spec.nodeSelector"
_PARTITION = "partition"


def wishes(spec: Object, *, partition: str) -> Wishes:
    """What a pod wants of its node; `partition` is the list of those that its job may go to."""
    selector = spec.get("nodeSelector") or {}
    found: dict[str, Callable[[Object], bool]] = {
        f"{_SELECTOR}[{key}] {value}": partial(_is_selected, key=key, value=value)
        for key, value in selector.items()
    }
    if partition and partition != selector.get(PARTITION_LABEL):
        found[f"{_PARTITION} {partition}"] = partial(_is_of, partitions=partition.split(","))
    if (spec.get("affinity") or {}).get("nodeAffinity"):
        found[_AFFINITY] = partial(_has_affinity, spec)
    return found


def unmet(wishes: Wishes, node: Object) -> tuple[str, ...]:
    """What a pod wants of its node and this one is not."""
    return tuple(wish for wish, is_met in wishes.items() if not is_met(node))


def advice(lacking: Sequence[Sequence[str]], nodes: Iterable[Object]) -> str:
    """What to do about wishes that no node meets all of, given what each of the nodes lacks."""
    nowhere = [wish for wish in lacking[0] if all(wish in others for others in lacking)]
    if not nowhere:
        every = list(dict.fromkeys(wish for wishes in lacking for wish in wishes))
        return f"{several(every)}: no node meets all of them; leave one out"
    partitions = [wish for wish in nowhere if _is_about_partition(wish)]
    if not partitions:
        return f"{several(nowhere)}: no node is so; correct it, or leave it out"
    known = sorted(
        {name for node in nodes for name in (own_partition(node), *largest(node))} - {""}
    )
    if not known:
        return f"{several(partitions)}: no partition is known yet; wait, or ask the administrator"
    return f"{several(partitions)}: no such partition; use {several(known)}"


def _is_about_partition(wish: str) -> bool:
    return wish.startswith((f"{_SELECTOR}[{PARTITION_LABEL}]", f"{_PARTITION} "))


def _is_selected(node: Object, *, key: str, value: str) -> bool:
    have = labels(node)
    # To a node that stands for all partitions this is a request, not a label.
    if key == PARTITION_LABEL and key not in have:
        return value in largest(node)
    return have.get(key) == value


def _is_of(node: Object, *, partitions: Sequence[str]) -> bool:
    """Slurm knows better which partitions there are, so only other partitions' nodes are left."""
    own = own_partition(node)
    return not own or own in partitions


def _has_affinity(spec: Object, node: Object) -> bool:
    name = str(node["metadata"].get("name"))
    return required_terms_match(spec, labels=labels(node), name=name)
