"""Registers the webhook with the API server: the one place that talks to it."""

from slurmlet.common.kube import Api, ApiError, Object
from slurmlet.webhook.registration import NAME, differences

_COLLECTION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


async def register(api: Api, wanted: Object, *, check: bool) -> list[str]:
    """Make the live configuration as wanted; with `check` only say what would change.

    Returns one line per change, none if the object is right.

    Raises:
        ApiError, UnreachableError: as the API server said.
    """
    would = "would be " if check else ""
    try:
        live = await api.get(f"{_COLLECTION}/{NAME}")
    except ApiError as error:
        if error.status != 404:
            raise
        if not check:
            await api.create(_COLLECTION, wanted)
        return [f"MutatingWebhookConfiguration {NAME}: {would}created"]
    changed = differences(live.get("webhooks"), wanted["webhooks"], "webhooks")
    if changed and not check:
        # A merge patch replaces the list as a whole and keeps labels that others set.
        version = live["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "webhooks": wanted["webhooks"]}
        await api.patch(f"{_COLLECTION}/{NAME}", body)
    return [f"MutatingWebhookConfiguration {NAME}: {would}changed: {path}" for path in changed]
