"""Who owns what the webhook overrides: nobody.

The API server computes managedFields before it asks us. Whoever wrote a field keeps it then, with
a value that is not there any more, and a second manager that applies the same manifest meets a
conflict over it (Kubernetes: Server-Side Apply, Conflicts).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from slurmlet.webhook.decision import Object, Op, add, parts

Path = tuple[str, ...]
"""Names of nested fields; ITEMS stands for every item of a list."""
ITEMS = "*"


def overriding(item: Object, patch: Sequence[Op]) -> tuple[Op, ...]:
    """The patch, and what takes the fields that it writes from all managers of the object."""
    metadata = item.get("metadata") or {}
    before = metadata.get("managedFields") or []
    after = without(before, [_field(op) for op in patch])
    return (*patch, add("metadata", "managedFields", value=after)) if after != before else (*patch,)


def _field(op: Op) -> Path:
    """What an operation writes, of lists the same field of every item."""
    return tuple(ITEMS if name.isdecimal() else name for name in parts(op["path"]))


def without(entries: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> list[Any]:
    """Entries of metadata.managedFields without these fields; who owned nothing else is gone."""
    left = []
    for entry in entries:
        owned = entry.get("fieldsV1") or {}
        fields = owned
        for path in paths:
            fields = _without(fields, path)
        if fields == owned:
            left.append(entry)
        elif fields:
            left.append({**entry, "fieldsV1": fields})
    return left


def _without(fields: Mapping[str, Any], path: Path) -> dict[str, Any]:
    name, *rest = path
    left: dict[str, Any] = {}
    for key, inner in fields.items():
        if not _is(key, name):
            left[key] = inner
        elif rest and inner:
            # Without its last field a parent would be owned as a whole: f:spec: {}.
            if kept := _without(inner, tuple(rest)):
                left[key] = kept
        elif rest:
            left[key] = inner
    return left


def _is(key: str, name: str) -> bool:
    # f: is a field, k: an item by its keys, v: one by its value, i: one by its place.
    return key[:2] in ("k:", "v:", "i:") if name == ITEMS else key == f"f:{name}"
