"""What Services ask of the pods that they select (docs/contracts.md, Services). Pure.

A headless Service leads clients to its pods' addresses at `port`, and no proxy is in between that
would change it to `targetPort`. The pod's own network has to.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from slurmlet.contracts.podproto import Forwarding, Redirection

Object = Mapping[str, Any]
MAX_REDIRECTIONS = 256
"""For one pod; more would be a mistake, and each is a rule that packets pass."""
_PROTOCOLS = ("TCP", "UDP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`service` leads to the pod at `port`, where `target` has to be reached."""

    service: str
    port: int
    target: int
    protocol: str

    def __str__(self) -> str:
        return f"Service {self.service} maps port {self.port}/{self.protocol} to {self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """`conflicts` are sentences for the pod's author, one for each wish that is not granted."""

    redirections: tuple[Redirection, ...] = ()
    conflicts: tuple[str, ...] = ()


def mapped(pod: Object, services: Iterable[Object]) -> Mapped:
    """The redirections that a pod needs in a network of its own. A port that a container declares
    stays its own; of several Services that want one port the oldest has it."""
    declared = dict(_declared(pod))
    holders: dict[tuple[str, int], Wish] = {}
    redirections: list[Redirection] = []
    conflicts: list[str] = []
    for wish in wishes(pod, services):
        place = (wish.protocol, wish.port)
        first = holders.setdefault(place, wish)
        if first.target != wish.target:
            conflicts.append(f"{wish}, but Service {first.service} maps it to {first.target}")
        elif wish.target == wish.port or first is not wish:
            continue
        elif place in declared:
            conflicts.append(f"{wish}, but container {declared[place]} declares that port itself")
        elif len(redirections) >= MAX_REDIRECTIONS:
            conflicts.append(f"{wish}, but a pod can have {MAX_REDIRECTIONS} such ports only")
        else:
            redirections.append(
                Redirection(port=wish.port, target_port=wish.target, protocol=wish.protocol)
            )
    order = sorted(redirections, key=lambda item: (item.protocol, item.port))
    return Mapped(redirections=tuple(order), conflicts=tuple(conflicts))


def wishes(pod: Object, services: Iterable[Object]) -> Iterator[Wish]:
    """What the headless Services that select the pod want of it, those of the oldest first."""
    chosen = [service for service in services if _selects(service, pod)]
    for service in sorted(chosen, key=_age):
        for port in service["spec"].get("ports") or ():
            protocol = port.get("protocol") or "TCP"
            target = _target(pod, port, protocol=protocol)
            if target is not None and protocol in _PROTOCOLS:
                yield Wish(
                    service=service["metadata"]["name"],
                    port=port["port"],
                    target=target,
                    protocol=protocol,
                )


def api_forwarding(service: Object | None, *, server: str) -> tuple[Forwarding, ...]:
    """How pods reach the API server at the address of the Service default/kubernetes, which nothing
    routes; `server` is the API server's URL."""
    spec = (service or {}).get("spec") or {}
    url = urlsplit(server)
    ports = [item["port"] for item in spec.get("ports") or () if item.get("name") == "https"]
    addresses = [spec.get("clusterIP") or "", url.hostname or ""]
    try:
        versions = {ipaddress.ip_address(address).version for address in addresses}
    except ValueError:
        return ()
    if not ports or len(versions) != 1:
        return ()
    return (
        Forwarding(
            address=addresses[0], port=ports[0], to_address=addresses[1], to_port=url.port or 443
        ),
    )


def _selects(service: Object, pod: Object) -> bool:
    selector = service["spec"].get("selector")
    if not selector or service["spec"].get("clusterIP") != "None":
        return False
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in selector.items())


def _age(service: Object) -> tuple[str, str]:
    metadata = service["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["name"]


def _target(pod: Object, port: Object, *, protocol: str) -> int | None:
    """The number of a targetPort; None if it is a name that no container's port has."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    for _, item in _ports(pod):
        if item.get("name") == target and (item.get("protocol") or "TCP") == protocol:
            return int(item["containerPort"])
    return None


def _declared(pod: Object) -> Iterator[tuple[tuple[str, int], str]]:
    for container, item in _ports(pod):
        yield (item.get("protocol") or "TCP", item["containerPort"]), container


def _ports(pod: Object) -> Iterator[tuple[str, Object]]:
    """The declared ports of containers that run as long as the pod does, with the container."""
    spec = pod["spec"]
    sidecars = [
        item for item in spec.get("initContainers") or () if item.get("restartPolicy") == "Always"
    ]
    for container in (*(spec.get("containers") or ()), *sidecars):
        for item in container.get("ports") or ():
            yield container["name"], item
