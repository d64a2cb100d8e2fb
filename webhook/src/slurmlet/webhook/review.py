"""AdmissionReview of admission.k8s.io/v1: decode, decide, encode. Pure."""

import base64
import json
import math
from typing import Any

from slurmlet.contracts.names import PROTECTED_NAMESPACES
from slurmlet.contracts.policy import Snapshot
from slurmlet.webhook import pods, services, templates
from slurmlet.webhook.decision import UNCHANGED, Decision, Object
from slurmlet.webhook.templates import BUILT_IN, Templates

API_VERSION = "admission.k8s.io/v1"


class ReviewError(ValueError):
    """A body that is no AdmissionReview which asks about an object."""


def decode(body: bytes) -> Object:
    """The AdmissionRequest in the body of a review, with the fields that `mutate` reads.

    Raises:
        ReviewError: anything else.
    """
    try:
        review = json.loads(body, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ReviewError(f"not JSON: {error}") from None
    if not isinstance(review, dict) or (review.get("apiVersion"), review.get("kind")) != (
        API_VERSION,
        "AdmissionReview",
    ):
        raise ReviewError(f"expected an AdmissionReview of {API_VERSION}")
    request = review.get("request")
    if not isinstance(request, dict):
        raise ReviewError("request: expected an object")
    for field, kind in (("uid", str), ("operation", str), ("kind", dict)):
        if not isinstance(request.get(field), kind):
            raise ReviewError(f"request.{field}: expected {kind.__name__}")
    if request["operation"] in ("CREATE", "UPDATE") and not isinstance(request.get("object"), dict):
        raise ReviewError("request.object: expected an object")
    return request


def _finite(text: str) -> float:
    # Python reads NaN and Infinity, and 1e999 as that; a patch with it would be no JSON.
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no finite number")
    return number


def mutate(request: Object, policy: Snapshot) -> Decision:
    """The decision on any AdmissionRequest; kinds that are not ours pass unchanged."""
    if not _is_asked(request):
        return UNCHANGED
    kind = request["kind"]
    match (kind.get("group") or "", kind.get("version"), kind.get("kind")):
        case ("", "v1", "Service"):
            return services.mutate(request, policy)
        case ("", "v1", "Pod"):
            return pods.mutate(request, policy)
    return UNCHANGED


def validate(request: Object, policy: Snapshot, table: Templates = BUILT_IN) -> Decision:
    """The decision on any AdmissionRequest for an object that makes pods, with the resources that
    do so; others pass."""
    return templates.validate(request, policy, table) if _is_asked(request) else UNCHANGED


def _is_asked(request: Object) -> bool:
    return (
        not request.get("subResource")
        and request.get("namespace") not in PROTECTED_NAMESPACES
        and request["operation"] in ("CREATE", "UPDATE")
    )


def encode(uid: str, decision: Decision) -> dict[str, Any]:
    """The AdmissionReview that answers the request of this uid."""
    response: dict[str, Any] = {"uid": uid, "allowed": decision.denial is None}
    if decision.denial is not None:
        response["status"] = {"code": 422, "reason": "Invalid", "message": decision.denial}
    elif decision.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(json.dumps(decision.patch).encode()).decode()
    if decision.warnings:
        response["warnings"] = list(decision.warnings)
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
