"""Prints the paths of all fields of a Pod, one a line: `pod_fields.py OPENAPI.json`, of what
`kubectl get --raw /openapi/v3/api/v1` says. tests/unit/contracts/pod-fields.txt is made by it."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LIST = Path(__file__).parents[1] / "unit" / "contracts" / "pod-fields.txt"
_POD = "io.k8s.api.core.v1.Pod"
_LEFT_OUT = frozenset({"status", "spec.initContainers"})
"""The agent's to write; and like `spec.containers`."""
_WHOLE = frozenset({"metadata", "spec.ephemeralContainers"})
"""The same for every kind of object; and decided about as a whole."""

Schemas = Mapping[str, Mapping[str, Any]]


def paths(document: Mapping[str, Any]) -> list[str]:
    """The paths in the API server's OpenAPI v3 document of the core group; `[*]` is any item."""
    return sorted(_walk(document["components"]["schemas"], _POD, above="", seen=()))


def _walk(schemas: Schemas, name: str, *, above: str, seen: tuple[str, ...]) -> Iterator[str]:
    for field, schema in schemas[name].get("properties", {}).items():
        path = f"{above}.{field}" if above else field
        if path in _LEFT_OUT:
            continue
        is_list = schema.get("type") == "array"
        below = _reference(schema["items"] if is_list else schema)
        # A schema without properties is a plain value, such as a quantity.
        plain = below is None or below in seen or not schemas[below].get("properties")
        if path in _WHOLE or plain:
            yield path
        else:
            assert below
            suffix = "[*]" if is_list else ""
            yield from _walk(schemas, below, above=path + suffix, seen=(*seen, below))


def _reference(schema: Mapping[str, Any]) -> str | None:
    found = [part["$ref"] for part in (schema, *schema.get("allOf", ())) if "$ref" in part]
    return str(found[0]).rpartition("/")[2] if found else None


def main() -> int:
    print(*paths(json.loads(Path(sys.argv[1]).read_text())), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
