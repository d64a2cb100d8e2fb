"""Registers what registration.py wants with the API server: the one place that talks to it."""

from collections.abc import Sequence

from slurmlet.common.kube import Api, ApiError, Object
from slurmlet.webhook import headless
from slurmlet.webhook.registration import MANAGED_BY, NAME, differences

_API = "/apis/admissionregistration.k8s.io/v1"
COLLECTIONS = {
    # In the order in which what is not wanted goes: a binding before its policy.
    "MutatingWebhookConfiguration": f"{_API}/mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": f"{_API}/validatingwebhookconfigurations",
    "MutatingAdmissionPolicyBinding": f"{_API}/mutatingadmissionpolicybindings",
    "MutatingAdmissionPolicy": f"{_API}/mutatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"{_API}/validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicy": f"{_API}/validatingadmissionpolicies",
}
NOT_EVERYWHERE = ("MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicy")
"""Kinds that API servers before Kubernetes 1.36 do not have; pods get no defaults there."""


class UnsupportedError(Exception):
    """The API server has not what is asked for."""


async def register(api: Api, wanted: Sequence[Object], *, check: bool) -> list[str]:
    """Make the live objects as wanted and remove others of ours, which bear our label; with `check`
    only say what would change. What is `NOT_EVERYWHERE` and not here is left out.

    Returns one line per change, none if everything is right.

    Raises:
        ApiError, UnreachableError: as the API server said; what came before it is done.
        UnsupportedError: Services would have addresses that nobody serves; nothing is done.
    """
    ours = await _ours(api)
    absent = {item["metadata"]["name"] for item in wanted if item["kind"] not in ours}
    if headless.MUTATION in absent:
        raise UnsupportedError(
            "--services policy: this API server has no MutatingAdmissionPolicy, which is there from"
            " Kubernetes 1.36 on; use --services webhook"
        )
    lines = [
        line
        for item in wanted
        if item["kind"] in ours
        for line in await _ensure(api, item, check=check)
    ]
    names = {(item["kind"], item["metadata"]["name"]) for item in wanted}
    for kind, found in ours.items():
        collection = COLLECTIONS[kind]
        for metadata in found:
            if (kind, metadata["name"]) in names:
                continue
            if not check:
                await api.delete(f"{collection}/{metadata['name']}", uid=metadata["uid"])
            lines.append(f"{kind} {metadata['name']}: {_would(check)}removed")
    return lines


async def _ours(api: Api) -> dict[str, list[Object]]:
    """By kind that the API server has, the metadata of what bears our label."""
    found = {}
    for kind, collection in COLLECTIONS.items():
        try:
            items, _ = await api.list(collection, {"labelSelector": f"{MANAGED_BY}={NAME}"})
        except ApiError as error:
            if error.status == 404 and kind in NOT_EVERYWHERE:
                continue
            raise
        found[kind] = [item["metadata"] for item in items]
    return found


async def _ensure(api: Api, wanted: Object, *, check: bool) -> list[str]:
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    path = f"{COLLECTIONS[kind]}/{name}"
    try:
        live = await api.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        if not check:
            await api.create(COLLECTIONS[kind], wanted)
        return [f"{kind} {name}: {_would(check)}created"]
    body = _as_wanted(live, wanted)
    changed = differences(live, body)
    if changed and not check:
        # With the resourceVersion that was read: nobody's change in between is lost.
        await api.replace(path, body)
    return [f"{kind} {name}: {_would(check)}changed: {field}" for field in changed]


def _as_wanted(live: Object, wanted: Object) -> Object:
    """The live object with our part of it; labels and annotations of others stay."""
    metadata = live["metadata"]
    labels = {**(metadata.get("labels") or {}), **wanted["metadata"]["labels"]}
    return {**live, **wanted, "metadata": {**metadata, "labels": labels}}


def _would(check: bool) -> str:
    return "would be " if check else ""
