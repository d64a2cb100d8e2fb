"""The ConfigMaps and Secrets that a pod refers to. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CONFIG_MAP = "ConfigMap"
SECRET = "Secret"

Found = Mapping[tuple[str, str], Mapping[str, Any] | None]
"""By kind and name: the object, or None for what does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One reference; `keys` must be in the object, `where` is what a message calls its place."""

    kind: str
    name: str
    where: str
    keys: tuple[str, ...] = ()
    optional: bool = False


def of_volumes(pod: Mapping[str, Any]) -> list[Reference]:
    """What the pod's volumes need before any container starts."""
    found: list[Reference] = []
    for volume in pod["spec"].get("volumes") or []:
        where = f'volume "{volume["name"]}"'
        if volume.get("configMap") is not None:
            found.append(_source(CONFIG_MAP, volume["configMap"], where=where, name="name"))
        if volume.get("secret") is not None:
            found.append(_source(SECRET, volume["secret"], where=where, name="secretName"))
        for source in (volume.get("projected") or {}).get("sources") or []:
            if source.get("configMap") is not None:
                found.append(_source(CONFIG_MAP, source["configMap"], where=where, name="name"))
            if source.get("secret") is not None:
                found.append(_source(SECRET, source["secret"], where=where, name="name"))
    return found


def of_container(container: Mapping[str, Any]) -> list[Reference]:
    """What a container's environment needs."""
    where = f'container "{container["name"]}"'
    found: list[Reference] = []
    for source in container.get("envFrom") or []:
        for field, kind in (("configMapRef", CONFIG_MAP), ("secretRef", SECRET)):
            if source.get(field) is not None:
                found.append(_source(kind, source[field], where=where, name="name"))
    for variable in container.get("env") or []:
        value = variable.get("valueFrom") or {}
        for field, kind in (("configMapKeyRef", CONFIG_MAP), ("secretKeyRef", SECRET)):
            reference = value.get(field)
            if reference is not None:
                found.append(
                    Reference(
                        kind=kind,
                        name=reference.get("name", ""),
                        where=where,
                        keys=(reference["key"],),
                        optional=bool(reference.get("optional")),
                    )
                )
    return found


def of_pulls(pod: Mapping[str, Any]) -> list[Reference]:
    """What pulling the pod's images may need; a pod starts without it, as with kubelet."""
    return [
        Reference(kind=SECRET, name=item["name"], where="imagePullSecrets", optional=True)
        for item in pod["spec"].get("imagePullSecrets") or []
        if item.get("name")
    ]


def containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All containers, in the order in which they start."""
    spec = pod["spec"]
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def missing(references: Iterable[Reference], found: Found) -> list[str]:
    """What is not there and not optional, in kubelet's words."""
    problems: list[str] = []
    for reference in references:
        item = found.get((reference.kind, reference.name))
        if reference.optional:
            continue
        word = reference.kind.lower()
        if item is None:
            problems.append(f'{reference.where}: {word} "{reference.name}" not found')
            continue
        have = keys_of(item)
        problems.extend(
            f'{reference.where}: couldn\'t find key {key} in {word} "{reference.name}"'
            for key in reference.keys
            if key not in have
        )
    return problems


def keys_of(item: Mapping[str, Any]) -> set[str]:
    return {*(item.get("data") or {}), *(item.get("binaryData") or {})}


def _source(kind: str, source: Mapping[str, Any], *, where: str, name: str) -> Reference:
    return Reference(
        kind=kind,
        name=source.get(name, ""),
        where=where,
        keys=tuple(item["key"] for item in source.get("items") or []),
        optional=bool(source.get("optional")),
    )
