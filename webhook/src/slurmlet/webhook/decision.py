"""What the webhook answers, and the JSON patch operations (RFC 6902) that it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
Op = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A patch with warnings for the user, or, if `denial` is set, the sentence that refuses."""

    patch: tuple[Op, ...] = ()
    warnings: tuple[str, ...] = ()
    denial: str | None = None


UNCHANGED = Decision()


def add(*path: str, value: object) -> Op:
    """Sets a member of an object, whether it was there or not."""
    return {"op": "add", "path": pointer(*path), "value": value}


def remove(*path: str) -> Op:
    """Removes a member, which must be there."""
    return {"op": "remove", "path": pointer(*path)}


def pointer(*path: str) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def parts(pointer: str) -> list[str]:
    """What a JSON pointer was made of."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def metadata(item: Object, field: str) -> Mapping[str, str]:
    """The labels or annotations of an object, empty if it has none."""
    return (item.get("metadata") or {}).get(field) or {}
