"""Tables of slurmlet.toml as frozen dataclasses."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from slurmlet.contracts.codec import CodecError, decode

T = TypeVar("T")


class ConfigError(Exception):
    """A configuration that cannot be used; the message names file, table, key and remedy."""


def read(path: str | Path) -> Mapping[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def table(tables: Mapping[str, Any], name: str, kind: type[T], *, path: str | Path) -> T:
    """One table of a read file, checked; a table that is absent counts as empty.

    Raises:
        ConfigError: a key is missing, unknown or of the wrong type.
    """
    try:
        return decode(kind, tables.get(name, {}), path=name)
    except CodecError as error:
        raise ConfigError(f"{path}: {error}") from None
