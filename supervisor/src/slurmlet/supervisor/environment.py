"""A container's environment, resolved as kubelet resolves it. No I/O."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from slurmlet.contracts.podproto import Plan

_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_ENV_NAME = re.compile(r"[!-<>-~][ -<>-~]*")


class ResolveError(ValueError):
    """An environment that cannot be resolved; the message is for the pod's author."""


def resolve_environment(container: Mapping[str, Any], plan: Plan) -> dict[str, str]:
    """Name → value: services, then envFrom in order, then env, each seeing those before it.

    Raises:
        ResolveError: a ConfigMap, Secret, key or field that is not optional is missing.
    """
    result = dict(plan.service_env)
    for source in container.get("envFrom") or ():
        result.update(_from_source(source, plan))
    for entry in container.get("env") or ():
        value = _value(entry, container=container, plan=plan, known=result)
        if value is not None:
            result[entry["name"]] = value
    return result


def refreshed(plan: Plan, *, newer: Plan) -> Plan:
    """The plan with what a container refers to as it is by now: ConfigMaps, Secrets, and the labels
    and annotations of the pod. The rest is how the pod was made."""
    current = newer.pod["metadata"]
    changing = {key: current.get(key) or {} for key in ("labels", "annotations")}
    return replace(
        plan,
        pod={**plan.pod, "metadata": {**plan.pod["metadata"], **changing}},
        config_maps=newer.config_maps,
        secrets=newer.secrets,
        pull_secrets=newer.pull_secrets,
    )


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace $(NAME) by known values; $$ is a dollar sign, unknown references stay as they are."""

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return known.get(match[1], match[0])

    return _REFERENCE.sub(replace, text)


def _from_source(source: Mapping[str, Any], plan: Plan) -> dict[str, str]:
    kind, reference, content = _content(source, plan, suffix="Ref")
    if content is None:
        if reference.get("optional"):
            return {}
        raise ResolveError(f'{kind} "{reference.get("name")}" not found')
    prefix = source.get("prefix") or ""
    # kubelet leaves out keys that are no names of variables.
    return {prefix + key: value for key, value in content.items() if _ENV_NAME.fullmatch(key)}


def _value(
    entry: Mapping[str, Any],
    *,
    container: Mapping[str, Any],
    plan: Plan,
    known: Mapping[str, str],
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(entry.get("value") or "", known)
    if "fieldRef" in source:
        return _field(source["fieldRef"]["fieldPath"], plan)
    if "resourceFieldRef" in source:
        # What it takes to read quantities is half a MiB that most pods need not have.
        from slurmlet.contracts.downward import resource_value  # noqa: PLC0415
        from slurmlet.contracts.quantity import QuantityError  # noqa: PLC0415

        try:
            return resource_value(plan.pod, source["resourceFieldRef"], container=container)
        except QuantityError as error:
            raise ResolveError(str(error)) from None
    kind, reference, content = _content(source, plan, suffix="KeyRef")
    key = reference.get("key", "")
    if content is None or key not in content:
        if reference.get("optional"):
            return None
        if content is None:
            raise ResolveError(f'{kind} "{reference.get("name")}" not found')
        namespace = plan.pod["metadata"].get("namespace", "")
        raise ResolveError(f"couldn't find key {key} in {kind} {namespace}/{reference.get('name')}")
    return content[key]


def _content(
    source: Mapping[str, Any], plan: Plan, *, suffix: str
) -> tuple[str, Mapping[str, Any], Mapping[str, str] | None]:
    """Kind, reference and content (None: does not exist) of a ConfigMap or Secret."""
    if f"configMap{suffix}" in source:
        reference = source[f"configMap{suffix}"]
        return "configmap", reference, plan.config_maps.get(reference.get("name", ""))
    if f"secret{suffix}" in source:
        reference = source[f"secret{suffix}"]
        encoded = plan.secrets.get(reference.get("name", ""))
        return "secret", reference, None if encoded is None else _decoded(encoded)
    raise ResolveError(f"environment source {', '.join(source)} is not supported")


def _decoded(secret: Mapping[str, str]) -> dict[str, str]:
    try:
        return {
            key: base64.b64decode(value, validate=True).decode("utf-8", "surrogateescape")
            for key, value in secret.items()
        }
    except (binascii.Error, ValueError):
        raise ResolveError("a secret holds what is not base64") from None


def _field(path: str, plan: Plan) -> str:
    metadata, spec = plan.pod["metadata"], plan.pod["spec"]
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    fields: Mapping[str, Callable[[], object]] = {
        "metadata.name": lambda: metadata.get("name"),
        "metadata.namespace": lambda: metadata.get("namespace"),
        "metadata.uid": lambda: metadata.get("uid"),
        "spec.nodeName": lambda: spec.get("nodeName"),
        "spec.serviceAccountName": lambda: spec.get("serviceAccountName"),
        "status.podIP": lambda: plan.pod_ip,
        "status.podIPs": lambda: plan.pod_ip,
        "status.hostIP": lambda: plan.host_ip,
        "status.hostIPs": lambda: plan.host_ip,
    }
    if path not in fields:
        raise ResolveError(f"unsupported fieldPath: {path}")
    return str(fields[path]() or "")
