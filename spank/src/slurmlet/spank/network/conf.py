"""A site's CNI configuration: the first list of plugins in its directory, as container runtimes
choose it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurmlet.spank.network import NetworkError

_SUFFIXES = (".conf", ".conflist", ".json")
_MAX_FILE = 262144
_MAX_PLUGINS = 16
"""Chains of three are long."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""What has `interfaces` in its results; before, nothing names the host's side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """A network: its plugins are called one after the other, each with the result before it."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]


def load(directory: Path) -> Conf:
    """The network of a configuration directory.

    Raises:
        NetworkError: there is none, or it is not understood; the message names the file.
    """
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix in _SUFFIXES)
        if not files:
            raise NetworkError(f"{directory} has no CNI configuration: a file *.conflist")
        path = files[0]
        status = path.stat()
        if status.st_uid != 0 or status.st_mode & 0o022:
            raise NetworkError(f"{path}: others than root can write it")
        if status.st_size > _MAX_FILE:
            raise NetworkError(f"{path}: larger than {_MAX_FILE} bytes")
        text = path.read_text()
    except OSError as error:
        raise NetworkError(f"{error.filename or directory}: {error.strerror}") from None
    except ValueError:
        raise NetworkError(f"{path}: not UTF-8") from None
    return parse(text, path=str(path))


def parse(text: str, *, path: str) -> Conf:
    """A list of plugins, or one plugin alone; messages begin with `path`. Raises NetworkError."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NetworkError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise NetworkError(f"{path}: expected an object")
    plugins = data.get("plugins") if "plugins" in data else [data]
    name, version = data.get("name"), data.get("cniVersion")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise NetworkError(f"{path}: name: expected letters, digits, '_', '.' or '-'")
    if version not in _VERSIONS:
        raise NetworkError(f"{path}: cniVersion: {version!r} is none of {', '.join(_VERSIONS)}")
    if not isinstance(plugins, list) or not 1 <= len(plugins) <= _MAX_PLUGINS:
        raise NetworkError(f"{path}: plugins: expected a list of 1 to {_MAX_PLUGINS}")
    for index, plugin in enumerate(plugins):
        kind = plugin.get("type") if isinstance(plugin, dict) else None
        # It becomes the name of a program; the libraries of others refuse paths, too.
        if not isinstance(kind, str) or not _NAME.fullmatch(kind):
            raise NetworkError(f"{path}: plugins[{index}].type: expected the name of a program")
    return Conf(name=name, version=version, plugins=tuple(plugins))
