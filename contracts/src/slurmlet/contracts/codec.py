"""Frozen dataclasses from and to plain data (TOML tables, JSON), with every type checked."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

T = TypeVar("T")


class CodecError(ValueError):
    """Data that does not fit its type; the message begins with the path of the field."""


def decode(kind: type[T], data: object, *, path: str, unknown: list[str] | None = None) -> T:
    """Build the dataclass `kind` from a mapping.

    `path` is what messages call the mapping. Keys that `kind` does not have are appended to
    `unknown`, or are errors when it is None.

    Raises:
        CodecError: a key is missing, unknown or of the wrong type.
    """
    if not isinstance(data, Mapping):
        raise CodecError(f"{path}: expected a table, got {_name(data)}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in data.items():
        if key in fields:
            arguments[key] = _convert(hints[key], value, path=f"{path}.{key}", unknown=unknown)
        elif unknown is None:
            raise CodecError(f"{path}.{key}: unknown key; known are {', '.join(sorted(fields))}")
        else:
            unknown.append(f"{path}.{key}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in arguments:
            raise CodecError(f"{path}.{name}: missing")
    return kind(**arguments)


def encode(value: object) -> Any:
    """Plain data of a dataclass made of what `decode` understands; None fields are left out."""
    if dataclasses.is_dataclass(value):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: encode(item) for name, item in pairs if item is not None}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple | frozenset):
        return [encode(item) for item in value]
    return value


def _convert(hint: Any, value: object, *, path: str, unknown: list[str] | None) -> Any:
    if hint is Any:
        return value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        (inner,) = (item for item in get_args(hint) if item is not type(None))
        return _convert(inner, value, path=path, unknown=unknown)
    if origin in (tuple, frozenset):
        if not isinstance(value, list | tuple):
            raise CodecError(f"{path}: expected a list, got {_name(value)}")
        item_hint = get_args(hint)[0]
        return origin(
            _convert(item_hint, item, path=f"{path}[{index}]", unknown=unknown)
            for index, item in enumerate(value)
        )
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise CodecError(f"{path}: expected a table, got {_name(value)}")
        item_hint = get_args(hint)[1]
        return {
            str(key): _convert(item_hint, item, path=f"{path}.{key}", unknown=unknown)
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value, path=path, unknown=unknown)
    if hint is float and type(value) is int:
        return float(value)
    # type() and not isinstance(): True is no integer here.
    if type(value) is not hint:
        raise CodecError(f"{path}: expected {hint.__name__}, got {_name(value)}")
    return value


def _name(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:60]!r}"
