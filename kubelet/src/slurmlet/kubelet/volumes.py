"""The files of volumes that are made from API objects. Pure."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from slurmlet.contracts.downward import resource_value
from slurmlet.contracts.podproto import Volume, VolumeFile
from slurmlet.contracts.quantity import QuantityError
from slurmlet.kubelet.references import CONFIG_MAP, SECRET, Found

DEFAULT_MODE = 0o644

Tokens = Mapping[tuple[str, str], str]
"""By volume and path: the token of a serviceAccountToken projection."""


def build(pod: Mapping[str, Any], *, found: Found, tokens: Tokens) -> tuple[Volume, ...]:
    """All volumes of a pod whose kinds are supported."""
    result: list[Volume] = []
    for volume in pod["spec"].get("volumes") or []:
        name = volume["name"]
        if volume.get("emptyDir") is not None:
            result.append(Volume(name=name, kind="emptyDir"))
        else:
            files = tuple(_files(pod, volume, found=found, tokens=tokens))
            result.append(Volume(name=name, kind="files", files=files))
    return tuple(result)


def token_requests(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Volume name and source of every serviceAccountToken projection."""
    for volume in pod["spec"].get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources") or []:
            if source.get("serviceAccountToken") is not None:
                yield volume["name"], source["serviceAccountToken"]


def _files(
    pod: Mapping[str, Any], volume: Mapping[str, Any], *, found: Found, tokens: Tokens
) -> Iterator[VolumeFile]:
    if volume.get("configMap") is not None:
        source = volume["configMap"]
        item = found.get((CONFIG_MAP, source.get("name", "")))
        yield from _object_files(item, source, mode=_mode(source))
    elif volume.get("secret") is not None:
        source = volume["secret"]
        item = found.get((SECRET, source.get("secretName", "")))
        yield from _object_files(item, source, mode=_mode(source))
    elif volume.get("downwardAPI") is not None:
        source = volume["downwardAPI"]
        yield from _downward(pod, source.get("items") or [], mode=_mode(source))
    elif volume.get("projected") is not None:
        mode = _mode(volume["projected"])
        for source in volume["projected"].get("sources") or []:
            if source.get("configMap") is not None:
                item = found.get((CONFIG_MAP, source["configMap"].get("name", "")))
                yield from _object_files(item, source["configMap"], mode=mode)
            elif source.get("secret") is not None:
                item = found.get((SECRET, source["secret"].get("name", "")))
                yield from _object_files(item, source["secret"], mode=mode)
            elif source.get("downwardAPI") is not None:
                yield from _downward(pod, source["downwardAPI"].get("items") or [], mode=mode)
            elif source.get("serviceAccountToken") is not None:
                path = source["serviceAccountToken"]["path"]
                text = tokens[volume["name"], path]
                yield VolumeFile(path=path, data=_encoded(text), mode=mode)


def _object_files(
    item: Mapping[str, Any] | None, source: Mapping[str, Any], *, mode: int
) -> Iterator[VolumeFile]:
    if item is None:
        return
    content = _content(item)
    chosen = source.get("items")
    pairs: Iterable[Mapping[str, Any]] = (
        chosen if chosen else ({"key": key, "path": key} for key in sorted(content))
    )
    for pair in pairs:
        if pair["key"] in content:
            own = pair.get("mode")
            yield VolumeFile(
                path=pair["path"],
                data=content[pair["key"]],
                mode=mode if own is None else own,
            )


def _content(item: Mapping[str, Any]) -> dict[str, str]:
    """Base64 by key. A Secret's data is base64 already."""
    data = dict(item.get("data") or {})
    if item.get("kind") == SECRET:
        return data
    return {key: _encoded(text) for key, text in data.items()} | dict(item.get("binaryData") or {})


def _downward(
    pod: Mapping[str, Any], items: Iterable[Mapping[str, Any]], *, mode: int
) -> Iterator[VolumeFile]:
    for item in items:
        if item.get("fieldRef") is not None:
            text = field_value(pod, item["fieldRef"].get("fieldPath", ""))
        else:
            text = _resource(pod, item.get("resourceFieldRef") or {})
        own = item.get("mode")
        yield VolumeFile(path=item["path"], data=_encoded(text), mode=mode if own is None else own)


def field_value(pod: Mapping[str, Any], path: str) -> str:
    """The text of a field that the downward API offers to volumes; empty for any other."""
    metadata = pod["metadata"]
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = metadata.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f"{key}={json.dumps(pairs[key])}" for key in sorted(pairs))
    for kind in ("labels", "annotations"):
        prefix = f"metadata.{kind}['"
        if path.startswith(prefix) and path.endswith("']"):
            return str((metadata.get(kind) or {}).get(path[len(prefix) : -2], ""))
    if path in ("metadata.name", "metadata.namespace", "metadata.uid"):
        return str(metadata[path.removeprefix("metadata.")])
    return ""


def _resource(pod: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    try:
        return resource_value(pod, reference)
    except QuantityError:
        return ""


def _mode(source: Mapping[str, Any]) -> int:
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
