"""Who owns what the webhook overrides: nobody.

The API server computes managedFields before it asks us. Whoever wrote a field keeps it then, with
a value that is not there any more, and a second manager that applies the same manifest meets a
conflict over it (Kubernetes: Server-Side Apply, Conflicts).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slurmlet.webhook.decision import Object, Op, add, parts

Path = tuple[str, ...]
"""Names of nested fields; ITEMS stands for every item of a list."""
ITEMS = "*"
Tree = dict[str, "Tree | None"]
"""By a key of fieldsV1, what goes below it; None: the field as a whole."""
_NOTHING: Tree = {}


def overriding(item: Object, patch: Sequence[Op]) -> tuple[Op, ...]:
    """The patch, and what takes the fields that it writes from all managers of the object."""
    metadata = item.get("metadata") or {}
    before = metadata.get("managedFields") or []
    after = without(before, [_field(op) for op in patch])
    return (*patch, add("metadata", "managedFields", value=after)) if after != before else (*patch,)


def _field(op: Op) -> Path:
    """What an operation writes, of lists the same field of every item."""
    return tuple(ITEMS if name.isdecimal() else name for name in parts(op["path"]))


def without(entries: Sequence[Mapping[str, Any]], paths: Iterable[Path]) -> list[Any]:
    """Entries of metadata.managedFields without these fields; who owned nothing else is gone."""
    tree = _tree(paths)
    left = []
    for entry in entries:
        owned = entry.get("fieldsV1") or {}
        fields = _without(owned, tree)
        if fields == owned:
            left.append(entry)
        elif fields:
            left.append({**entry, "fieldsV1": fields})
    return left


def _tree(paths: Iterable[Path]) -> Tree:
    """All paths at once, because a user may send tens of thousands of them."""
    tree: Tree = {}
    for *parents, last in sorted(set(paths), key=len):
        node: Tree | None = tree
        for name in parents:
            node = node.setdefault(_key(name), {}) if node is not None else None
        if node is not None:
            node[_key(last)] = None
    return tree


def _without(fields: Mapping[str, Any], tree: Tree) -> dict[str, Any]:
    left: dict[str, Any] = {}
    for key, inner in fields.items():
        # f: is a field, k: an item by its keys, v: one by its value, i: one by its place.
        name = ITEMS if key[:2] in ("k:", "v:", "i:") else key
        below = tree.get(name, _NOTHING)
        if below and inner:
            # Without its last field a parent would be owned as a whole: f:spec: {}.
            if kept := _without(inner, below):
                left[key] = kept
        elif below is not None:
            left[key] = inner
    return left


def _key(name: str) -> str:
    return ITEMS if name == ITEMS else f"f:{name}"
