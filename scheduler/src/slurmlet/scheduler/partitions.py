"""The partitions of Slurm behind a node, as its agent says. Pure."""

import json
from collections.abc import Mapping
from functools import lru_cache
from math import ceil
from typing import Any

from slurmlet.contracts.names import LARGEST_ANNOTATION, PARTITION_LABEL
from slurmlet.contracts.policy import NodeSize
from slurmlet.contracts.quantity import QuantityError, mib, parse

Object = Mapping[str, Any]
Sizes = Mapping[str, tuple[NodeSize, ...]]


def labels(node: Object) -> Mapping[str, str]:
    """The node's labels."""
    return node["metadata"].get("labels") or {}


def own_partition(node: Object) -> str:
    """The one partition that a node stands for, or nothing if it stands for all."""
    return labels(node).get(PARTITION_LABEL) or ""


def largest(node: Object) -> Sizes:
    """Partition → what its machines have (`size.largest_of`); empty where that cannot be read."""
    annotations = node["metadata"].get("annotations") or {}
    return _read(annotations.get(LARGEST_ANNOTATION) or "")


# One entry a node: each pod is compared with all of them, and they change once in minutes.
@lru_cache(maxsize=256)
def _read(text: str) -> Sizes:
    try:
        found = json.loads(text)
        return {name: _sizes(item) for name, item in found.items()} if _is_table(found) else {}
    except (ValueError, RecursionError):
        return {}


def _sizes(item: Any) -> tuple[NodeSize, ...]:
    # One size that has the most of each resource: what agents said before there were several.
    found = [_size(one) for one in (item if isinstance(item, list) else [item])]
    known = tuple(size for size in found if size is not None)
    return known if len(known) == len(found) else ()


def _size(item: Any) -> NodeSize | None:
    if not _is_table(item) or not _is_table(item.get("gres")):
        return None
    try:
        return NodeSize(
            cpus=ceil(parse(item.get("cpu"))),
            memory=mib(parse(item.get("memory"))),
            gres={name: ceil(parse(count)) for name, count in item["gres"].items()},
        )
    except QuantityError:
        return None


def _is_table(item: Any) -> bool:
    return isinstance(item, dict)
