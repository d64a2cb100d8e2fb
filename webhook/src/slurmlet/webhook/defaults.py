"""A MutatingAdmissionPolicy that gives pods the defaults of their namespace, which no webhook sees
(docs/contracts.md, Annotations). Pure.

The API server evaluates it itself, before it asks any webhook.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from slurmlet.contracts.aliases import OUR_SCHEDULERS
from slurmlet.contracts.annotations import KEYS
from slurmlet.contracts.names import NAMESPACE_PREFIX, PREFIX
from slurmlet.webhook.matching import rule
from slurmlet.webhook.policies import mutating

Object = dict[str, Any]

NOT_A_MIRROR = '!("kubernetes.io/config.mirror" in object.metadata.?annotations.orValue({}))'

_DAEMON = 'object.metadata.?ownerReferences[?0].?kind.orValue("") == "DaemonSet"'
_TERMS = (
    "object.spec.?affinity.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution"
    ".?nodeSelectorTerms"
)
_FIELD = f"{_TERMS}[?0].?matchFields[?0]"

_NAMES = tuple(key.removeprefix(PREFIX) for key in KEYS)
"""A walk over these is short; one over all annotations might not be (policies.py, FEW)."""
_FROM, _TO = f'"{PREFIX}" + name', f'"{NAMESPACE_PREFIX}" + name'
_VARIABLES = {
    "defaults": "namespaceObject.metadata.?annotations.orValue({})",
    "before": "object.metadata.?annotations.orValue({})",
    "wrong": f"{json.dumps(_NAMES)}.filter(name,"
    f" variables.before[?{_TO}] != variables.defaults[?{_FROM}])",
}
_PATCH = (
    # Without annotations there is nothing yet that they could be added to.
    "(variables.before.size() == 0"
    ' ? [JSONPatch{op: "add", path: "/metadata/annotations", value: {}}] : [])'
    " + variables.wrong.map(name, JSONPatch{"
    f'op: {_FROM} in variables.defaults ? "add" : "remove",'
    f' path: "/metadata/annotations/" + jsonpatch.escapeKey({_TO}),'
    f' value: variables.defaults[?{_FROM}].orValue("")'
    "})"
)


def policy(
    name: str, *, nodes: Sequence[str], namespaces: Object, conditions: Mapping[str, str]
) -> list[Object]:
    """The policy and its binding, with every default of the API server written out, so that they
    can be compared.

    `nodes` are the names of our virtual nodes, `namespaces` is a label selector, and `conditions`
    are CEL that must hold of a pod beyond its being ours.
    """
    return mutating(
        name,
        rules=[rule(["pods"], operations=["CREATE"])],
        namespaces=namespaces,
        conditions={**_ours(nodes), **conditions},
        variables=_VARIABLES,
        patch=_PATCH,
    )


def _ours(nodes: Sequence[str]) -> dict[str, str]:
    """As in pods.py, but of daemons only the form that their controller gives them: one term with
    one field (Kubernetes, ReplaceDaemonSetPodNodeNameNodeAffinity), so that nothing is walked."""
    names = json.dumps(nodes)
    return {
        "not-a-mirror": NOT_A_MIRROR,
        "by-a-scheduler-or-a-node-of-ours": (
            f'object.spec.?nodeName.orValue("") != "" ? object.spec.nodeName in {names}'
            f' : object.spec.?schedulerName.orValue("") in {json.dumps(OUR_SCHEDULERS)}'
        ),
        "not-a-daemon-elsewhere": (
            f'object.spec.?nodeName.orValue("") != "" || !({_DAEMON}'
            f' && {_TERMS}.orValue([]).size() == 1 && {_FIELD}.?key.orValue("") == "metadata.name"'
            f' && {_FIELD}.?operator.orValue("") == "In"'
            f' && !({_FIELD}.?values[?0].orValue("") in {names}))'
        ),
    }
