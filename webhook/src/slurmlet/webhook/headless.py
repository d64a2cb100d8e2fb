"""What services.py decides, as admission policies that the API server evaluates itself: no Service
waits for the webhook then (docs/adr/0013). Pure.

They pass the golden files of services.py (tests/integration/webhook/test_headless.py).
"""

import json
from collections.abc import Mapping
from typing import Any

from slurmlet.contracts.names import HEADLESS_LABEL, ORIGINAL_TYPE_ANNOTATION
from slurmlet.contracts.wording import LONGEST, MOST, NAMED
from slurmlet.webhook import services
from slurmlet.webhook.matching import rule
from slurmlet.webhook.policies import FEW, binding, first, mutating, text, validating, validation

Object = dict[str, Any]

MUTATION, TOLD = "services.slurmlet.io", "told-services.slurmlet.io"
KEPT, LIMITED = "kept-services.slurmlet.io", "limited-services.slurmlet.io"
LINES = 5 + MOST + 1
"""Warnings about one Service: of its type, of what goes with it, two of source ranges, of its
address, and of its ports."""

_RULES = [rule(["services"])]
_UPDATES = [rule(["services"], operations=["UPDATE"])]
_RANGES = json.dumps(services.RANGES_ANNOTATION)
_NOTE = json.dumps(ORIGINAL_TYPE_ANNOTATION)
_BEGINS = '(request.operation == "CREATE" || oldObject.spec.?type.orValue("") == "ExternalName")'
_HERE = "object.metadata.?selfLink"
"""Carries the warnings from the mutation, which cannot warn, to the policy that can, which does not
see what was removed. The API server never stores this field (ObjectVersioner,
PrepareObjectForStorage), but shows it in the answer to a dry run, which goes without."""

_FACTS = {
    "type": 'object.spec.?type.orValue("ClusterIP")',
    "forwards": 'variables.type in ["NodePort", "LoadBalancer"]',
    "ports": "object.spec.?ports.orValue([])",
    "notes": "object.metadata.?annotations.orValue({})",
    "address": 'object.spec.?clusterIP.orValue("")',
    "addressed": (
        'variables.address != "None" || object.spec.?clusterIPs.orValue(["None"]) != ["None"]'
    ),
    "selected": "object.spec.?selector.orValue({}).size() > 0",
    "families": "object.spec.?ipFamilies.orValue([])",
    "old_families": f"{_BEGINS} ? [] : oldObject.spec.?ipFamilies.orValue([])",
    "family_policy": (
        "object.spec.?ipFamilyPolicy.orValue("
        f'{_BEGINS} ? "" : oldObject.spec.?ipFamilyPolicy.orValue(""))'
    ),
    "made": f'{_BEGINS} && variables.address != "None" && !variables.selected',
    "one_family": (
        'variables.made && variables.family_policy == "" && variables.families.size() < 2'
        " && object.spec.?clusterIPs.orValue([]).size() < 2"
    ),
    "old_policy": (
        f"!({_BEGINS}) && !has(object.spec.ipFamilyPolicy)"
        f" && variables.family_policy in {json.dumps(services.DUAL)}"
    ),
    "both_families": (
        f"variables.family_policy in {json.dumps(services.DUAL)} && variables.families.size() == 1"
        f" && ({_BEGINS} ? variables.made"
        " : !variables.selected || variables.old_families.size() > 1)"
    ),
    "ranged": f"variables.forwards && {_RANGES} in variables.notes",
    "bound": (
        f"!variables.forwards ? [] : {json.dumps(services.OF_TYPES)}.filter(name,"
        ' name in object.spec && (name != "externalTrafficPolicy"'
        " || object.spec.?externalIPs.orValue([]).size() == 0))"
    ),
    "ported": "variables.forwards && variables.ports.exists(port, has(port.nodePort))",
}
"""What services.py asks of a Service."""

_ITEM = '{"f:nodePort": {}}'
"""What is left of the port of an owner who owns nothing else of it."""
_OWNERS = "object.metadata.?managedFields.orValue([])"
_OWNED = 'dyn(owner.?fieldsV1[?"{}"].orValue({{}}))'.format
_SPEC, _META = _OWNED("f:spec"), _OWNED("f:metadata")
_FREED = {
    "freed": (
        '(variables.forwards ? ["f:type"] : [])'
        ' + variables.bound.map(name, "f:" + name)'
        ' + (variables.addressed ? ["f:clusterIP", "f:clusterIPs"] : [])'
        ' + (variables.one_family || variables.old_policy ? ["f:ipFamilyPolicy"] : [])'
        ' + (variables.both_families ? ["f:ipFamilies"] : [])'
    ),
    "freed_notes": (
        f'!variables.forwards ? [] : ["f:" + {_NOTE}]'
        f' + (variables.ranged ? ["f:" + {_RANGES}] : [])'
    ),
    # Nobody meets a conflict over what so many fields are, but would wait for the walk.
    "owners": (
        f"{_OWNERS}.size() > 100 || {_OWNERS}.exists(owner, {_SPEC}.size() > 100"
        f' || {_SPEC}[?"f:ports"].orValue({{}}).size() > {FEW}'
        f' || {_META}[?"f:annotations"].orValue({{}}).size() > {FEW}) ? [] : {_OWNERS}'
    ),
    "specs": (
        f"variables.owners.map(owner, {_SPEC}.transformMap(key, field,"
        ' !(key in variables.freed) && !(key == "f:ports" && variables.ported && field.size() > 0'
        f' && field.all(port, port.startsWith("k:") && field[port] == {_ITEM})),'
        ' !(key == "f:ports" && variables.ported) ? field : field.transformMap(port, of,'
        f' !(port.startsWith("k:") && of == {_ITEM}),'
        ' !port.startsWith("k:") ? of : of.transformMap(name, at, name != "f:nodePort", at))))'
    ),
    "metas": (
        f"variables.owners.map(owner, {_META}.transformMap(key, field,"
        ' !(key == "f:annotations" && variables.forwards && (variables.notes.size() == 0'
        " || field.size() > 0 && field.all(note, note in variables.freed_notes))),"
        ' key != "f:annotations" ? field'
        " : field.transformMap(note, at, !(note in variables.freed_notes), at)))"
    ),
    "fields": (
        "variables.owners.transformList(index, owner,"
        " dyn(owner.?fieldsV1.orValue({})).transformMap(key, field,"
        ' !(key == "f:spec" && field.size() > 0 && variables.specs[index].size() == 0)'
        ' && !(key == "f:metadata" && field.size() > 0 && variables.metas[index].size() == 0),'
        ' key == "f:spec" ? dyn(variables.specs[index])'
        ' : key == "f:metadata" ? dyn(variables.metas[index]) : field))'
    ),
    "left": (
        "variables.owners.transformList(index, owner,"
        " variables.fields[index].size() > 0 || owner.?fieldsV1.orValue({}).size() == 0,"
        ' owner.transformMap(key, value, key == "fieldsV1"'
        " ? dyn(variables.fields[index]) : value))"
    ),
}
"""As managedfields.py: the owners of what the patch writes, without that."""

_WRITTEN = [
    *services.OF_TYPES,
    *("type", "clusterIP", "clusterIPs", "ipFamilyPolicy", "ipFamilies", "ports"),
]
_TIMELESS = '{}.map(owner, dyn(owner).transformMap(key, at, key != "time", at))'.format
_BESIDES = "dyn({}).transformMap(key, at, !(key in {}), at)".format
_NODE_PORT = json.dumps(["nodePort"])
_NOTES = json.dumps([ORIGINAL_TYPE_ANNOTATION, services.RANGES_ANNOTATION])
_OLD_NOTES = "oldObject.metadata.?annotations.orValue({})"
_KEPT = {
    # An update that changes nothing keeps the owners' times, or it would be written after all. The
    # API server sees to that itself, but for what _HERE carries
    # (IgnoreManagedFieldsTimestampsTransformer).
    "unchanged": (
        'request.operation == "UPDATE"'
        " && object.metadata.?labels == oldObject.metadata.?labels"
        f" && variables.notes.size() <= {FEW} && {_OLD_NOTES}.size() <= {FEW}"
        f" && {_BESIDES('variables.notes', _NOTES)} == {_BESIDES(_OLD_NOTES, _NOTES)}"
        f" && {_BESIDES('object.spec', json.dumps(_WRITTEN))}"
        f" == {_BESIDES('oldObject.spec', json.dumps(_WRITTEN))}"
        f" && variables.ports.map(port, {_BESIDES('port', _NODE_PORT)})"
        " == oldObject.spec.?ports.orValue([])"
    ),
    "kept": (
        "variables.unchanged && oldObject.metadata.?managedFields.orValue([]).size() <= 100"
        f" && {_TIMELESS('variables.left')}"
        f" == {_TIMELESS('oldObject.metadata.?managedFields.orValue([])')}"
        " ? oldObject.metadata.?managedFields.orValue([]) : variables.left"
    ),
}

_DROPPED = {
    "dropped": (
        "!variables.forwards ? [] : variables.ports.transformList(index, port,"
        " port.?nodePort.orValue(0) != 0,"
        f" {text('spec.ports[{string(index)}].nodePort {string(port.nodePort)}')})"
        " + variables.bound.filter(name,"
        f" name != {json.dumps(services.RANGES)} && object.spec[name] != null && "
        + " && ".join(
            f"!(name == {json.dumps(name)} && object.spec[name] == {json.dumps(value)})"
            for name, value in services.DEFAULTS.items()
        )
        + f").map(name, {text('spec.{name} {string(object.spec[name])}')})"
    ),
    "removed": (
        f"{first('variables.dropped', NAMED)}.map(one,"
        f' one.size() > {LONGEST} ? one.substring(0, {LONGEST}) : one).join(", ")'
        f" + (variables.dropped.size() > {NAMED} ? "
        + text(f" and {{string(variables.dropped.size() - {NAMED})}} more")
        + ' : "")'
    ),
    "field_ranges": (
        f'!variables.forwards ? "" : object.spec.?{services.RANGES}.orValue([]).join(", ")'
    ),
    "note_ranges": f'!variables.ranged ? "" : variables.notes[{_RANGES}]',
}


def policies(
    *, namespaces: Object, conditions: Mapping[str, str], pod_network: bool | None
) -> list[Object]:
    """The policies and their bindings.

    `namespaces` is a label selector, `conditions` are CEL that hold of the Services that are ours,
    and `pod_network` says whether pods have a network of their own; None: not known.
    """
    ours = {
        **conditions,
        # Also one that was an external name, which may take the label.
        "not-opted-out-now": f"!({_opted_out('object')})",
        "without-an-address-of-before": (
            f'{_BEGINS} || oldObject.spec.?clusterIP.orValue("") == "None"'
        ),
    }
    return [
        *_checks(namespaces, conditions, ours),
        *mutating(
            MUTATION,
            rules=_RULES,
            namespaces=namespaces,
            conditions={**ours, "few-ports": f"object.spec.?ports.orValue([]).size() <= {FEW}"},
            variables={**_FACTS, **_FREED, **_KEPT, **_DROPPED, **_said(pod_network)},
            patch=_PATCH,
        ),
    ]


def _checks(
    namespaces: Object, conditions: Mapping[str, str], ours: Mapping[str, str]
) -> list[Object]:
    kept = validating(
        KEPT,
        rules=_UPDATES,
        namespaces=namespaces,
        conditions={
            **conditions,
            # An external name has no address yet.
            "was-not-external": 'oldObject.spec.?type.orValue("") != "ExternalName"',
        },
        variables={},
        validations=[
            validation(
                f"({_opted_out('object')}) == ({_opted_out('oldObject')})", says=services.TOGGLED
            )
        ],
    )
    limited = validating(
        LIMITED,
        rules=_RULES,
        namespaces=namespaces,
        conditions=ours,
        variables={"ports": "object.spec.?ports.orValue([]).size()"},
        validations=[
            validation(
                f"variables.ports <= {FEW}",
                says=f"spec.ports: a Service cannot have {{string(variables.ports)}} of them here;"
                f" use at most {FEW}, or several Services",
            )
        ],
    )
    told = validating(
        TOLD,
        rules=_RULES,
        namespaces=namespaces,
        conditions={**ours, "told": f'{_HERE}.orValue("") != ""'},
        variables={"lines": 'object.metadata.selfLink.split("\\n")'},
        validations=[
            validation(f"variables.lines.size() <= {index}", says=f"{{variables.lines[{index}]}}")
            for index in range(LINES)
        ],
    )
    return [kept, limited, told, binding(KEPT), binding(LIMITED), binding(TOLD, action="Warn")]


def _said(pod_network: bool | None) -> dict[str, str]:
    """What services.py warns of, a line each."""
    why = (
        f"!variables.selected ? {json.dumps(services.UNSELECTED)}"
        f' : port.?protocol.orValue("") == "SCTP" ? {json.dumps(services.OF_SCTP)}'
        f" : {json.dumps(services.UNNETWORKED if pod_network is False else '')}"
    )
    leads = (
        'port.?protocol.orValue("") + " " + string(port.port)'
        ' + " " + string(port.?targetPort.orValue(port.port))'
    )
    not_led = services.NOT_LED.format(
        index="{string(index)}",
        port="{string(port.port)}",
        target="{string(port.targetPort)}",
        why=f"{{({why})}}",
    )
    types, address = {"type": "{variables.type}"}, "{variables.address}"
    lines = [
        _if("variables.forwards", services.BECAME.format(**types)),
        _if(
            "variables.dropped.size() > 0",
            services.REMOVED.format(removed="{variables.removed}", **types),
        ),
        *(
            _if(
                f'{value} != ""',
                services.UNFILTERED.format(place=place, value=f"{{{_cut(value)}}}"),
            )
            for place, value in (
                (f"spec.{services.RANGES}", "variables.field_ranges"),
                (f"annotation {services.RANGES_ANNOTATION}", "variables.note_ranges"),
            )
        ),
        _if(
            'variables.address != "" && variables.address != "None"',
            services.REPLACED.format(address=address),
        ),
        first("variables.unled", MOST),
        _if(
            f"variables.unled.size() > {MOST}",
            f"and {{string(variables.unled.size() - {MOST})}} more",
        ),
    ]
    return {
        "known": (
            'request.operation == "CREATE" ? []'
            f" : oldObject.spec.?ports.orValue([]).map(port, {leads})"
        ),
        "unled": (
            "variables.ports.transformList(index, port,"
            " type(port.?targetPort.orValue(0)) == int"
            " && port.?targetPort.orValue(port.port) != port.port"
            f' && ({why}) != "" && !(({leads}) in variables.known),'
            f" {text(not_led)})"
        ),
        "lines": " + ".join(lines),
    }


def _if(condition: str, says: str) -> str:
    return f"({condition} ? [{text(says)}] : [])"


def _cut(value: str) -> str:
    return f"({value}.size() > {services.SHOWN} ? {value}.substring(0, {services.SHOWN}) : {value})"


def _opted_out(which: str) -> str:
    return f'{which}.metadata.?labels[?"{HEADLESS_LABEL}"].orValue("") == "false"'


def _patch(condition: str, *operations: str) -> str:
    return f"({condition} ? [{', '.join(operations)}] : [])"


def _add(path: str, value: str) -> str:
    return f'JSONPatch{{op: "add", path: {json.dumps(path)}, value: {value}}}'


def _escaped(name: str) -> str:
    return f'"/metadata/annotations/" + jsonpatch.escapeKey({name})'


_PATCH = " + ".join(
    [
        _patch("variables.forwards", _add("/spec/type", '"ClusterIP"')),
        (
            "(!variables.ported ? []"
            " : variables.ports.transformList(index, port, has(port.nodePort),"
            ' JSONPatch{op: "remove", path: "/spec/ports/" + string(index) + "/nodePort"}))'
        ),
        'variables.bound.map(name, JSONPatch{op: "remove", path: "/spec/" + name})',
        _patch("variables.ranged", f'JSONPatch{{op: "remove", path: {_escaped(_RANGES)}}}'),
        # Without annotations there is nothing yet that one could be added to.
        _patch(
            "variables.forwards && variables.notes.size() == 0", _add("/metadata/annotations", "{}")
        ),
        _patch(
            "variables.forwards",
            f'JSONPatch{{op: "add", path: {_escaped(_NOTE)}, value: variables.type}}',
        ),
        _patch(
            "variables.addressed",
            _add("/spec/clusterIP", '"None"'),
            _add("/spec/clusterIPs", '["None"]'),
        ),
        _patch("variables.one_family", _add("/spec/ipFamilyPolicy", '"SingleStack"')),
        _patch("variables.old_policy", _add("/spec/ipFamilyPolicy", "variables.family_policy")),
        _patch(
            "variables.both_families",
            _add(
                "/spec/ipFamilies",
                'variables.families + [variables.families[0] == "IPv4" ? "IPv6" : "IPv4"]',
            ),
        ),
        _patch(
            "variables.kept != variables.owners",
            _add("/metadata/managedFields", "variables.kept"),
        ),
        # Evaluated again, it has nothing to add to what was said before.
        _patch(
            "variables.lines.size() > 0 && !request.?dryRun.orValue(false)"
            f' && {_HERE}.orValue("") == ""',
            _add("/metadata/selfLink", 'variables.lines.join("\\n")'),
        ),
    ]
)
