"""ValidatingAdmissionPolicies that guard our annotations on pods, and refuse what a pod on our node
cannot have (docs/contracts.md, Guard). Pure.

The API server evaluates them itself: no kubelet, scheduler or controller ever waits for us.
"""

import json
from collections.abc import Sequence
from typing import Any

from slurmlet.contracts.aliases import ALIASES, FLAG_ALIASES
from slurmlet.contracts.annotations import KEYS
from slurmlet.contracts.names import (
    NAMESPACE_PREFIX,
    PREFIX,
    PROTECTED_NAMESPACES,
    REQUEST_ANNOTATION,
    STATUS_ANNOTATIONS,
    STATUS_PREFIX,
)
from slurmlet.webhook.matching import rule
from slurmlet.webhook.policies import FEW, binding, validating, validation

Object = dict[str, Any]

STATUS, BOUND, BINDINGS = "status.slurmlet.io", "bound-pods.slurmlet.io", "bindings.slurmlet.io"
SHOWN = 60
"""Characters of a value that a denial shows: a message of more than 5 KiB would not be shown."""

_SUBRESOURCES = ("pods/status", "pods/ephemeralcontainers", "pods/resize")
_EVERYWHERE: Object = {}
_NOT_PROTECTED: Object = {
    "matchExpressions": [
        {
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": sorted(PROTECTED_NAMESPACES),
        }
    ]
}

_ANNOTATIONS_CHANGED = (
    'request.operation == "CREATE"'
    " || object.metadata.?annotations != oldObject.metadata.?annotations"
)
_NOT_THE_AGENT = (
    '!(request.operation == "UPDATE" && has(oldObject.spec.nodeName)'
    ' && request.userInfo.username == "system:node:" + oldObject.spec.nodeName'
    ' && has(request.userInfo.groups) && "system:nodes" in request.userInfo.groups)'
)

_OURS_TO_WRITE = f'k.startsWith("{STATUS_PREFIX}")'
_ALIASES = (*FLAG_ALIASES, *ALIASES)
_ASKS_SLURM = (
    f'k.startsWith("{PREFIX}") || k.startsWith("{NAMESPACE_PREFIX}") || k in {json.dumps(_ALIASES)}'
)
_ASKING = (*KEYS, *(f"ns.{key}" for key in KEYS), *_ALIASES)
_NOT_TOUCHED = "variables.touched.size() == 0"


def policies(nodes: Sequence[str]) -> list[Object]:
    """The policies and their bindings, with every default of the API server written out, so that
    they can be compared; `nodes` are the names of our virtual nodes."""
    guards = (_status(), _bound(nodes), _bindings())
    return [*guards, *(binding(guard["metadata"]["name"]) for guard in guards)]


def _status() -> Object:
    """Of a pod in any namespace: whatever its namespace's label says now, it can come to our node,
    and the agent believes these annotations there."""
    return validating(
        STATUS,
        rules=[rule(["pods"]), rule(_SUBRESOURCES, operations=["UPDATE"])],
        namespaces=_EVERYWHERE,
        conditions={
            "annotations-changed": _ANNOTATIONS_CHANGED,
            "not-the-agent": _NOT_THE_AGENT,
        },
        variables=_touched(
            _OURS_TO_WRITE,
            known=STATUS_ANNOTATIONS,
            # The webhook writes it, after it removed what the pod's author wrote.
            unless=f'request.operation == "CREATE" && k == "{REQUEST_ANNOTATION}"',
        ),
        validations=[
            validation(
                _NOT_TOUCHED,
                says="metadata.annotations[{variables.key}]: cannot be {variables.change}, because"
                f" only slurmlet writes what is below {STATUS_PREFIX}; leave that annotation to"
                " slurmlet",
            )
        ],
    )


def _bound(nodes: Sequence[str]) -> Object:
    """Of a pod on our node, which is one of ours whatever its namespace's label says."""
    again = "delete and re-create the pod"
    return validating(
        BOUND,
        rules=[rule(["pods", *_SUBRESOURCES], operations=["UPDATE"])],
        namespaces=_NOT_PROTECTED,
        conditions={
            "on-our-node": f'oldObject.spec.?nodeName.orValue("") in {json.dumps(nodes)}',
            "not-the-agent": _NOT_THE_AGENT,
        },
        variables={
            **_touched(_ASKS_SLURM, known=_ASKING),
            "node": "oldObject.spec.nodeName",
            "of": 'has(request.subResource) ? request.subResource : ""',
            "resized": (
                '(variables.of != "resize" ? [] : object.spec.containers'
                '.filter(c, !(c in oldObject.spec.containers)).map(c, c.name)) + ["*"]'
            ),
            "attached": (
                '(variables.of != "ephemeralcontainers" ? []'
                ' : object.spec.?ephemeralContainers.orValue([]).map(c, c.name)) + ["*"]'
            ),
        },
        validations=[
            validation(
                _NOT_TOUCHED,
                says="metadata.annotations[{variables.key}]: cannot be {variables.change}, because"
                " a pod keeps what it asks of Slurm once it is bound to node {variables.node};"
                f" {again}",
            ),
            validation(
                'variables.of != "resize"',
                says="spec.containers[{variables.resized[0]}].resources: cannot change on node"
                " {variables.node}, because Slurm cannot change the size of a job;"
                f" {again} with the resources that it needs",
            ),
            validation(
                'variables.of != "ephemeralcontainers"',
                says="spec.ephemeralContainers[{variables.attached[0]}]: cannot be added on node"
                " {variables.node}, which does not run such containers yet; run a step in the"
                " pod: srun --k8s-pod={request.namespace}/{request.name}",
            ),
        ],
    )


def _bindings() -> Object:
    """The API server merges the annotations of a binding into the pod, and asks nobody again."""
    return validating(
        BINDINGS,
        rules=[rule(["pods/binding", "bindings"], operations=["CREATE"])],
        namespaces=_EVERYWHERE,
        conditions={"has-annotations": "has(object.metadata.annotations)"},
        variables=_touched(
            f"{_OURS_TO_WRITE} || {_ASKS_SLURM}", known=(*STATUS_ANNOTATIONS, *_ASKING)
        ),
        validations=[
            validation(
                _NOT_TOUCHED,
                says="metadata.annotations[{variables.key}]: cannot be {variables.change} by a"
                " binding, because the pod was admitted without it; bind the pod without that"
                " annotation",
            )
        ],
    )


def _touched(about: str, *, known: Sequence[str], unless: str = "false") -> dict[str, str]:
    """Variables: `touched`, the keys that the CEL condition `about` picks and that were changed;
    `key`, the first of them by name, and `change`, what becomes of it.

    `unless` picks keys that may be written. Of a pod with more than `FEW` annotations only the
    `known` keys are looked at: all that anybody reads.
    """
    value = "variables.value"
    shown = f'{value}.size() > {SHOWN} ? {value}.substring(0, {SHOWN}) + "..." : {value}'
    return {
        "after": "object.metadata.?annotations.orValue({})",
        "before": (
            'request.operation == "CREATE" ? {} : oldObject.metadata.?annotations.orValue({})'
        ),
        "keys": (
            f"variables.before.size() + variables.after.size() > {FEW} ? {json.dumps(known)}"
            " : variables.before.map(k, k) + variables.after.map(k, k)"
        ),
        "touched": (
            f"variables.keys.filter(k, ({about}) && variables.before[?k] != variables.after[?k]"
            f" && !({unless}))"
        ),
        "key": 'variables.touched.size() == 0 ? "" : variables.touched.min()',
        "value": 'variables.after[?variables.key].orValue("")',
        "change": (
            f'!(variables.key in variables.after) ? "removed" : "set to " + strings.quote({shown})'
        ),
    }
