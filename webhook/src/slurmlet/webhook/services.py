"""Services become headless: nobody serves virtual addresses on the nodes of a Slurm cluster.

What is headless stays so, whatever is applied to it; what has an address keeps it, because the API
server lets no update take it away (docs/contracts.md, Services).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slurmlet.contracts.names import HEADLESS_LABEL, ORIGINAL_TYPE_ANNOTATION
from slurmlet.contracts.policy import Snapshot
from slurmlet.contracts.wording import several, some
from slurmlet.webhook.decision import UNCHANGED, Decision, Object, Op, add, metadata, remove
from slurmlet.webhook.managedfields import overriding

RANGES = "loadBalancerSourceRanges"
RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"
OF_TYPES = (
    "healthCheckNodePort",
    "loadBalancerClass",
    "loadBalancerIP",
    "externalTrafficPolicy",
    "allocateLoadBalancerNodePorts",
    RANGES,
)
"""Fields of spec that a ClusterIP Service may not have (ValidateService of Kubernetes)."""
DEFAULTS: Mapping[str, object] = {
    "externalTrafficPolicy": "Cluster",
    "allocateLoadBalancerNodePorts": True,
}
"""What the API server writes there by itself, and nobody misses."""
DUAL = ("PreferDualStack", "RequireDualStack")
"""Policies for which a headless Service without a selector has both address families."""
SHOWN = 80
"""Characters of a value that a warning shows."""

_INSTEAD = f'use the DNS name, or re-create the Service with label {HEADLESS_LABEL}: "false"'
TOGGLED = (
    f"metadata.labels[{HEADLESS_LABEL}]: cannot change, because a Service keeps its clusterIP for"
    " life; delete and re-create the Service"
)
BECAME = (
    "spec.type {type} became a headless ClusterIP: nothing forwards from outside to Slurm jobs; "
    f"{_INSTEAD}"
)
REMOVED = "{removed}: removed with spec.type {type}; leave it out"
UNFILTERED = (
    "{place} {value}: removed, nothing filters who reaches the pods; let the application check its"
    " clients"
)
REPLACED = f"spec.clusterIP {{address}} was replaced by None: nothing serves it; {_INSTEAD}"
NOT_LED = (
    "spec.ports[{index}]: nothing leads port {port} to targetPort {target} {why}; clients must use"
    " {target}, give both the same number"
)
UNSELECTED, OF_SCTP = "of a Service without a selector", "of protocol SCTP"
UNNETWORKED = "here, where pods have no network of their own"
"""What is said, here and by headless.py."""


def mutate(request: Object, policy: Snapshot) -> Decision:
    """The decision on the CREATE or UPDATE of a Service, given an AdmissionRequest."""
    service = request["object"]
    old = (request.get("oldObject") or {}) if request["operation"] == "UPDATE" else None
    if _is_api_server(request, service) or _type(service) == "ExternalName":
        return UNCHANGED
    if old and _is_toggled(service, old):
        return Decision(denial=TOGGLED)
    if _opted_out(service):
        return UNCHANGED
    if old and _type(old) != "ExternalName" and not _is_headless(old):
        return UNCHANGED
    before = old if old and _type(old) != "ExternalName" else None
    patch = [*_downgrade(service), *_address(service), *_families(service, before)]
    return Decision(
        patch=overriding(service, patch),
        warnings=(
            *_type_warnings(service),
            *_address_warnings(service),
            *some(_port_warnings(service, old or {}, policy)),
        ),
    )


def _is_api_server(request: Object, service: Object) -> bool:
    # The API server makes this one itself, for clients that know no other address.
    name = (service.get("metadata") or {}).get("name")
    return (request.get("namespace"), name) == ("default", "kubernetes")


def _is_toggled(service: Object, old: Object) -> bool:
    deleting = (service.get("metadata") or {}).get("deletionTimestamp")
    # An external name has no address yet.
    return not deleting and _type(old) != "ExternalName" and _opted_out(service) != _opted_out(old)


def _downgrade(service: Object) -> Iterator[Op]:
    """To type ClusterIP, without what only other types may have."""
    if not _has_other_type(service):
        return
    yield add("spec", "type", value="ClusterIP")
    for index, port in enumerate(_ports(service)):
        if "nodePort" in port:
            yield remove("spec", "ports", str(index), "nodePort")
    for name in _removed(service):
        yield remove("spec", name)
    annotations = metadata(service, "annotations")
    if RANGES_ANNOTATION in annotations:
        yield remove("metadata", "annotations", RANGES_ANNOTATION)
    if annotations:
        yield add("metadata", "annotations", ORIGINAL_TYPE_ANNOTATION, value=_type(service))
    else:
        yield add("metadata", "annotations", value={ORIGINAL_TYPE_ANNOTATION: _type(service)})


def _address(service: Object) -> Iterator[Op]:
    if not _is_headless(service) or _spec(service).get("clusterIPs") not in (None, ["None"]):
        yield add("spec", "clusterIP", value="None")
        yield add("spec", "clusterIPs", value=["None"])


def _families(service: Object, before: Object | None) -> Iterator[Op]:
    """A headless Service without a selector gets both from the API server, which refuses to take
    one away when the manifest is applied again: without a policy one is asked for, as it would have
    had with an address, and otherwise both are named, whenever one is. The old policy, which the
    API server takes where an update has none, is named because both families stand only by it."""
    spec, old = _spec(service), _spec(before or {})
    families: Sequence[str] = spec.get("ipFamilies") or ()
    selected = bool(spec.get("selector"))
    policy = spec.get("ipFamilyPolicy") or old.get("ipFamilyPolicy")
    made = before is None and not selected and not _is_headless(service)
    has_two = made if before is None else not selected or len(old.get("ipFamilies") or ()) > 1
    if before and policy in DUAL and not spec.get("ipFamilyPolicy"):
        yield add("spec", "ipFamilyPolicy", value=policy)
    if has_two and policy in DUAL and len(families) == 1:
        other = "IPv6" if families[0] == "IPv4" else "IPv4"
        yield add("spec", "ipFamilies", value=[families[0], other])
    elif made and not policy and max(len(families), len(spec.get("clusterIPs") or ())) < 2:
        yield add("spec", "ipFamilyPolicy", value="SingleStack")


def _removed(service: Object) -> list[str]:
    spec = _spec(service)
    # externalIPs make a ClusterIP Service reachable from outside, too, and then it needs a policy.
    kept = {"externalTrafficPolicy"} if spec.get("externalIPs") else set()
    return [name for name in OF_TYPES if name in spec and name not in kept]


def _type_warnings(service: Object) -> Iterator[str]:
    if not _has_other_type(service):
        return
    kind, spec = _type(service), _spec(service)
    yield BECAME.format(type=kind)
    removed = [
        *(
            f"spec.ports[{index}].nodePort {port['nodePort']}"
            for index, port in enumerate(_ports(service))
            if port.get("nodePort")
        ),
        *(
            f"spec.{name} {_shown(spec[name])}"
            for name in _removed(service)
            if name != RANGES and spec[name] not in (DEFAULTS.get(name), None)
        ),
    ]
    if removed:
        yield REMOVED.format(removed=several(removed), type=kind)
    ranges = {
        f"spec.{RANGES}": ", ".join(map(str, spec.get(RANGES) or ())),
        f"annotation {RANGES_ANNOTATION}": metadata(service, "annotations").get(RANGES_ANNOTATION),
    }
    for place, value in ranges.items():
        if value:
            yield UNFILTERED.format(place=place, value=value[:SHOWN])


def _shown(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _address_warnings(service: Object) -> Iterator[str]:
    address = _spec(service).get("clusterIP")
    if address and address != "None":
        yield REPLACED.format(address=address)


def _port_warnings(service: Object, old: Object, policy: Snapshot) -> Iterator[str]:
    """Ports that no pod's network can lead to another targetPort."""
    known = {_leads(port) for port in _ports(old)}
    for index, port in enumerate(_ports(service)):
        number, target = port.get("port"), port.get("targetPort")
        if not isinstance(target, int) or number == target or _leads(port) in known:
            continue
        if not _spec(service).get("selector"):
            why = UNSELECTED
        elif port.get("protocol") == "SCTP":
            why = OF_SCTP
        elif policy.pod_network is False:
            why = UNNETWORKED
        else:
            continue
        yield NOT_LED.format(index=index, port=number, target=target, why=why)


def _leads(port: Mapping[str, Any]) -> str:
    return f"{port.get('protocol')} {port.get('port')} {port.get('targetPort')}"


def _spec(service: Object) -> Mapping[str, Any]:
    return service.get("spec") or {}


def _ports(service: Object) -> Sequence[Mapping[str, Any]]:
    return _spec(service).get("ports") or ()


def _type(service: Object) -> str:
    return str(_spec(service).get("type") or "ClusterIP")


def _has_other_type(service: Object) -> bool:
    return _type(service) in ("NodePort", "LoadBalancer")


def _opted_out(service: Object) -> bool:
    return metadata(service, "labels").get(HEADLESS_LABEL) == "false"


def _is_headless(service: Object) -> bool:
    return _spec(service).get("clusterIP") == "None"
