"""Who owns what the webhook overrides: nobody.

The API server computes managedFields before it asks us. Whoever wrote a field keeps it then, with
a value that is not there any more, and a second manager that applies the same manifest meets a
conflict over it (Kubernetes: Server-Side Apply, Conflicts).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slurmlet.webhook.decision import Object, Op, add

Path = tuple[str, ...]
"""Names of nested fields; ITEMS stands for every item of a list."""
ITEMS = "*"


def disown(item: Object, paths: Iterable[Path]) -> list[Op]:
    """The patch that takes fields from all managers of an object; no operation if none has them."""
    metadata = item.get("metadata") or {}
    before = metadata.get("managedFields") or []
    after = without(before, list(paths))
    return [add("metadata", "managedFields", value=after)] if after != before else []


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
