"""Services become headless: nobody serves virtual addresses on the nodes of a Slurm cluster."""

from slurmlet.contracts.names import HEADLESS_LABEL
from slurmlet.webhook.decision import UNCHANGED, Decision, Object, add, metadata

_HEADLESS = (
    add("spec", "clusterIP", value="None"),
    add("spec", "clusterIPs", value=["None"]),
)


def mutate(request: Object) -> Decision:
    """The decision on the CREATE or UPDATE of a Service, given an AdmissionRequest."""
    service = request["object"]
    if request["operation"] == "CREATE":
        return _create(request, service)
    if request["operation"] == "UPDATE":
        return _update(service, request.get("oldObject") or {})
    return UNCHANGED


def _create(request: Object, service: Object) -> Decision:
    spec = service.get("spec") or {}
    kind = _type(service)
    # The API server makes this one itself, for clients that know no other address.
    is_api_server = (
        request.get("namespace") == "default"
        and (service.get("metadata") or {}).get("name") == "kubernetes"
    )
    if is_api_server or _opted_out(service) or kind == "ExternalName" or _is_headless(service):
        return UNCHANGED
    if kind != "ClusterIP":
        warning = (
            f"spec.type {kind}: nothing forwards node ports or virtual addresses to Slurm jobs;"
            " use type ClusterIP, which becomes headless"
        )
        return Decision(warnings=(warning,))
    warnings = []
    if spec.get("clusterIP"):
        warnings.append(
            f"spec.clusterIP {spec['clusterIP']} was replaced by None, because nothing serves it;"
            f' label {HEADLESS_LABEL}: "false" keeps it'
        )
    return Decision(patch=_HEADLESS, warnings=tuple(warnings))


def _update(service: Object, old: Object) -> Decision:
    if (service.get("metadata") or {}).get("deletionTimestamp"):
        return UNCHANGED
    if _type(old) == "ExternalName":
        # It has no address yet, so the API server would allocate one now.
        plain = _type(service) == "ClusterIP" and not _is_headless(service)
        return Decision(patch=_HEADLESS) if plain and not _opted_out(service) else UNCHANGED
    if _opted_out(service) != _opted_out(old):
        return Decision(
            denial=f"metadata.labels[{HEADLESS_LABEL}]: cannot change, because a Service keeps its"
            " clusterIP for life; delete and re-create the Service"
        )
    # Everything else keeps what it has: clusterIP is immutable, and the API server itself copies
    # the old None into an update that leaves the field out.
    return UNCHANGED


def _type(service: Object) -> str:
    return str((service.get("spec") or {}).get("type") or "ClusterIP")


def _opted_out(service: Object) -> bool:
    return metadata(service, "labels").get(HEADLESS_LABEL) == "false"


def _is_headless(service: Object) -> bool:
    return (service.get("spec") or {}).get("clusterIP") == "None"
