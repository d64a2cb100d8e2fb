"""What the API server must know so that objects are sent to us (docs/contracts.md, Registration).
Pure: objects with every default of the API server written out, so that they can be compared."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from slurmlet.contracts.names import (
    ADMISSION_LABEL,
    HEADLESS_LABEL,
    NODE_NAME,
    PROTECTED_NAMESPACES,
    SCHEDULER_NAME,
    STATUS_ANNOTATIONS,
)
from slurmlet.webhook import defaults, guard, headless
from slurmlet.webhook.matching import named, rule
from slurmlet.webhook.pods import OVERRIDDEN
from slurmlet.webhook.policies import API_VERSION
from slurmlet.webhook.templates import BUILT_IN, Templates

Object = dict[str, Any]
Scope = Literal["all", "labelled"]
"""Which namespaces without a label are ours: all of them on our own control plane, none on a
cluster that has other nodes."""

NAME = "slurmlet"
MANAGED_BY = "app.kubernetes.io/managed-by"
TIMEOUT_SECONDS = 3
"""An answer takes milliseconds, and every create waits for it: a dead webhook is said soon."""
FEW_OWNERS = 100
"""Of an object that are looked at in CEL, which takes quadratic time (policies.FEW): 40,000 of them
took two seconds of the API server. Of an object with more the webhook finds its controller."""
_KEY_CHANGES = "object.metadata.?annotations[?key] != oldObject.metadata.?annotations[?key]"
_OWNERS = "object.metadata.?ownerReferences.orValue([])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where the webhook is, inside the cluster."""

    namespace: str
    name: str
    port: int = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What registration depends on: where the webhook is (`https://ADDRESS:PORT` or a Service), the
    authority of its certificate (PEM), and what is ours.

    `services` says who makes Services headless: the webhook, or a policy (headless.py), which
    must be told whether pods have a network of their own (`pod_network`, None: not known).
    """

    at: str | Service
    ca: bytes
    scope: Scope = "all"
    nodes: tuple[str, ...] = (NODE_NAME,)
    templates: Templates = field(default_factory=lambda: BUILT_IN)
    services: Literal["webhook", "policy"] = "webhook"
    pod_network: bool | None = None


def objects(site: Site) -> list[Object]:
    """All that is registered, in the order in which it is made: what asks us comes last."""
    wanted = [
        *guard.policies(site.nodes),
        *_defaults(site),
        *_headless(site),
        _validating(site),
        _mutating(site),
    ]
    for item in wanted:
        item["metadata"]["labels"] = {MANAGED_BY: NAME}
    return wanted


def differences(live: Any, wanted: Any, path: str = "") -> list[str]:
    """Paths of the fields of `wanted` that `live` does not have with the same value."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        keys = wanted.keys() | live.keys()
        return [
            found
            for key in sorted(keys)
            for found in differences(live.get(key), wanted.get(key), f"{path}.{key}".lstrip("."))
        ]
    old, new = _by_name(live), _by_name(wanted)
    if old and new and [*old] == [name for name in new if name in old]:
        return [
            found
            for name in new
            for found in differences(old.get(name), new[name], f"{path}[{name}]")
        ]
    return [] if live == wanted else [path]


def _by_name(items: Any) -> dict[str, Any]:
    """The items of a list that have names, or nothing."""
    items = items if isinstance(items, list) else []
    named = all(isinstance(item, dict) and "name" in item for item in items)
    return {item["name"]: item for item in items} if named else {}


def _defaults(site: Site) -> list[Object]:
    """Of every pod that is sent to us."""
    made = defaults.policy(
        "defaults.slurmlet.io", nodes=site.nodes, namespaces=_ours(site.scope), conditions={}
    )
    if site.scope == "labelled":
        made += defaults.policy(
            "defaults-by-name.slurmlet.io",
            nodes=site.nodes,
            namespaces=_unlabelled(),
            conditions={"names-us": _names_us(site.nodes)},
        )
    return made


def _headless(site: Site) -> list[Object]:
    if site.services == "webhook":
        return []
    return headless.policies(
        namespaces=_ours(site.scope), conditions=_services(), pod_network=site.pod_network
    )


def _mutating(site: Site) -> Object:
    asked = partial(_webhook, site=site, path="/mutate")
    services, pods, ours = [rule(["services"])], [rule(["pods"])], _ours(site.scope)
    # Let through unseen, a Service would get an address for life, and a pod no toleration.
    webhooks = [asked("pods", rules=pods, conditions=_pods(), selects=ours, failure="Fail")]
    if site.services == "webhook":
        webhooks.insert(
            0,
            asked("services", rules=services, conditions=_services(), selects=ours, failure="Fail"),
        )
    if site.scope == "labelled":
        webhooks.append(
            asked(
                "pods-by-name",
                rules=pods,
                conditions={**_pods(), "names-us": _names_us(site.nodes)},
                selects=_unlabelled(),
                # Nobody in such a namespace agreed to wait for us.
                failure="Ignore",
            )
        )
    for webhook in webhooks:
        webhook["reinvocationPolicy"] = "IfNeeded"
    return _configuration("MutatingWebhookConfiguration", webhooks)


def _validating(site: Site) -> Object:
    groups: dict[tuple[str, str], list[str]] = {}
    for key in site.templates:
        group, version, resource = key.split("/")
        groups.setdefault((group, version), []).append(resource)
    rules = [
        rule(resources, group=group, version=version)
        for (group, version), resources in groups.items()
    ]
    members = sorted({path[0] for paths in site.templates.values() for path in paths})
    webhook = _webhook(
        "templates",
        site=site,
        path="/validate",
        rules=rules,
        conditions={
            "not-being-deleted": "!has(object.metadata.deletionTimestamp)",
            "without-controller": (
                f"{_OWNERS}.size() > {FEW_OWNERS}"
                f" || !{_OWNERS}.exists(owner, owner.?controller.orValue(false))"
            ),
            "something-changed": (
                'request.operation == "CREATE"'
                " || object.metadata.?annotations != oldObject.metadata.?annotations"
                + "".join(f' || object[?"{name}"] != oldObject[?"{name}"]' for name in members)
            ),
        },
        selects=_ours(site.scope),
        # It only says earlier what is said of each pod.
        failure="Ignore",
    )
    return _configuration("ValidatingWebhookConfiguration", [webhook])


def _services() -> dict[str, str]:
    kept = f'.metadata.?labels[?"{HEADLESS_LABEL}"].orValue("") == "false"'
    return {
        # The API server makes it before any webhook can be up.
        "not-the-api-server": '!(request.namespace == "default" && request.name == "kubernetes")',
        # Resolver files hold its address; this is the label of all DNS add-ons.
        "not-dns": 'object.metadata.?labels[?"k8s-app"].orValue("") != "kube-dns"',
        "not-external": '!has(object.spec.type) || object.spec.type != "ExternalName"',
        "not-being-deleted": "!has(object.metadata.deletionTimestamp)",
        # One that changes sides is sent, and refused.
        "not-opted-out": f'!(object{kept} && (request.operation == "CREATE" || oldObject{kept}))',
    }


def _pods() -> dict[str, str]:
    return {
        "not-a-mirror": defaults.NOT_A_MIRROR,
        # Everything else that changes in a pod never waits for us.
        "created-or-ours-changed": " || ".join(
            [
                'request.operation == "CREATE"',
                f"{json.dumps(STATUS_ANNOTATIONS)}.exists(key, {_KEY_CHANGES})",
                # A manifest that is applied again; nobody else may change these.
                *(f"object.spec.?{name} != oldObject.spec.?{name}" for name in OVERRIDDEN),
            ]
        ),
    }


def _names_us(nodes: Sequence[str]) -> str:
    return (
        f'object.spec.?schedulerName.orValue("") == "{SCHEDULER_NAME}"'
        f' || object.spec.?nodeName.orValue("") in {json.dumps(nodes)}'
    )


def _ours(scope: Scope) -> Object:
    if scope == "all":
        return _switch("NotIn", ["disabled"])
    return _switch("In", ["enabled"])


def _unlabelled() -> Object:
    return _switch("NotIn", ["disabled", "enabled"])


def _switch(operator: str, values: list[str]) -> Object:
    """Namespaces by their label; those that nobody touches are left out in any case."""
    return {
        "matchExpressions": [
            {
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": sorted(PROTECTED_NAMESPACES),
            },
            {"key": ADMISSION_LABEL, "operator": operator, "values": values},
        ]
    }


def _webhook(
    name: str,
    *,
    site: Site,
    path: str,
    rules: list[Object],
    conditions: Mapping[str, str],
    selects: Object,
    failure: Literal["Fail", "Ignore"],
) -> Object:
    return {
        "name": f"{name}.slurmlet.io",
        "admissionReviewVersions": ["v1"],
        "clientConfig": _client_config(site, path),
        "rules": rules,
        "namespaceSelector": selects,
        "objectSelector": {},
        "matchConditions": named(conditions),
        "matchPolicy": "Equivalent",
        "failurePolicy": failure,
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
    }


def _client_config(site: Site, path: str) -> Object:
    authority = {"caBundle": base64.b64encode(site.ca).decode()}
    if isinstance(site.at, str):
        return {"url": site.at + path, **authority}
    service = {"namespace": site.at.namespace, "name": site.at.name, "port": site.at.port}
    return {"service": {**service, "path": path}, **authority}


def _configuration(kind: str, webhooks: list[Object]) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": NAME},
        "webhooks": webhooks,
    }
