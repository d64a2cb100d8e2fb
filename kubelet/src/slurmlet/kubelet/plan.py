"""What a supervisor gets to run: the pod with the content of its volumes and environment."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from slurmlet.common.kube import Api, ApiError, Object
from slurmlet.contracts.podproto import Plan
from slurmlet.kubelet import references, volumes
from slurmlet.kubelet.references import CONFIG_MAP, SECRET, Found, Reference

DEFAULT_TOKEN_SECONDS = 3600
_DOCKER_KEYS = (".dockerconfigjson", ".dockercfg")
_COLLECTIONS = {CONFIG_MAP: "configmaps", SECRET: "secrets"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is the same for all pods: variables that lead to the API server, and who answers for
    names of the cluster."""

    service_env: Mapping[str, str]
    dns_servers: tuple[str, ...] = ()
    cluster_domain: str = ""


class NotReadyError(Exception):
    """Something that the pod needs does not exist (yet); the message says what."""


def pod_references(pod: Mapping[str, Any]) -> list[Reference]:
    """All references of a pod."""
    own = [item for each in references.containers(pod) for item in references.of_container(each)]
    return [*references.of_volumes(pod), *references.of_pulls(pod), *own]


async def fetch(api: Api, namespace: str, wanted: Iterable[Reference]) -> Found:
    """The objects that are referred to; under node authorisation each is a request of its own.

    Raises:
        ApiError, UnreachableError: the API server did not say whether one of them exists.
    """
    names = sorted({(item.kind, item.name) for item in wanted})
    found = await asyncio.gather(*(_fetch(api, namespace, kind, name) for kind, name in names))
    return dict(zip(names, found, strict=True))


async def build(
    api: Api,
    pod: Mapping[str, Any],
    *,
    ip: str,
    host_ip: str,
    engine: str,
    surroundings: Surroundings,
) -> Plan:
    """The plan of a pod of address `ip`, whose job runs on the host of address `host_ip`.

    Raises:
        NotReadyError: a reference that the volumes need is missing.
        ApiError, UnreachableError: the API server did not give something.
    """
    found = await fetch(api, pod["metadata"]["namespace"], pod_references(pod))
    problems = references.missing(references.of_volumes(pod), found)
    if problems:
        raise NotReadyError("; ".join(problems))
    tokens = {
        (volume, source["path"]): await _token(api, pod, source)
        for volume, source in volumes.token_requests(pod)
    }
    in_env = {
        (item.kind, item.name)
        for each in references.containers(pod)
        for item in references.of_container(each)
    }
    return Plan(
        pod=_without_noise(pod),
        volumes=volumes.build(pod, found=found, tokens=tokens),
        config_maps=_data(CONFIG_MAP, in_env, found),
        secrets=_data(SECRET, in_env, found),
        pull_secrets=_docker(pod, found),
        pod_ip=ip,
        host_ip=host_ip,
        engine=engine,
        service_env=surroundings.service_env,
        dns_servers=surroundings.dns_servers,
        cluster_domain=surroundings.cluster_domain,
    )


def service_environment(server: str) -> dict[str, str]:
    """The variables by which clients in a pod find the API server; `server` is its URL."""
    url = urlsplit(server)
    host, port = url.hostname or "", str(url.port or 443)
    link = f"tcp://{host}:{port}"
    return {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
        "KUBERNETES_PORT": link,
        f"KUBERNETES_PORT_{port}_TCP": link,
        f"KUBERNETES_PORT_{port}_TCP_PROTO": "tcp",
        f"KUBERNETES_PORT_{port}_TCP_PORT": port,
        f"KUBERNETES_PORT_{port}_TCP_ADDR": host,
    }


async def _fetch(api: Api, namespace: str, kind: str, name: str) -> Object | None:
    try:
        item = await api.get(f"/api/v1/namespaces/{namespace}/{_COLLECTIONS[kind]}/{name}")
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    return {**item, "kind": kind}


async def _token(api: Api, pod: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    metadata = pod["metadata"]
    account = pod["spec"].get("serviceAccountName") or "default"
    audience = source.get("audience")
    answer = await api.create(
        f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": source.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS,
                "boundObjectRef": {
                    "kind": "Pod",
                    "apiVersion": "v1",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            },
        },
    )
    return str(answer["status"]["token"])


def _data(kind: str, wanted: set[tuple[str, str]], found: Found) -> dict[str, dict[str, str]]:
    return {
        name: dict(item.get("data") or {})
        for (item_kind, name), item in found.items()
        if item_kind == kind and item is not None and (kind, name) in wanted
    }


def _docker(pod: Mapping[str, Any], found: Found) -> dict[str, dict[str, str]]:
    wanted = {(item.kind, item.name) for item in references.of_pulls(pod)}
    return {
        name: {key: data[key] for key in _DOCKER_KEYS if key in data}
        for name, data in _data(SECRET, wanted, found).items()
    }


def _without_noise(pod: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in pod["metadata"].items() if key != "managedFields"}
    return {**pod, "metadata": metadata}
