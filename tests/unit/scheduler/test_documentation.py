"""What the documentation of Kubernetes says of nodeSelector, node affinity, taints and tolerations:
the rule is the id of each case."""

from collections.abc import Callable
from typing import Any

import pytest

from slurmlet.scheduler.verdict import verdict

Make = Callable[..., dict[str, Any]]

LABELS = {"disktype": "ssd", "zone": "east-1", "generation": "3", "empty": ""}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}}


def term(*requirements: tuple[str, str, list[str]], **more: Any) -> dict[str, Any]:
    return {"matchExpressions": [expression(*item) for item in requirements], **more}


def expression(key: str, operator: str, values: list[str]) -> dict[str, Any]:
    # As the API server serves it: an empty list is left out.
    return {"key": key, "operator": operator, **({"values": values} if values else {})}


def label(key: str, operator: str, *values: str) -> dict[str, Any]:
    return affinity(term((key, operator, list(values))))


def named(operator: str, *values: str, key: str = "metadata.name") -> dict[str, Any]:
    return {"matchFields": [expression(key, operator, list(values))]}


FITS, NOT = True, False
MATCHES = ("disktype", "In", ["ssd"])
DIFFERS = ("disktype", "In", ["hdd"])

SELECTION: list[tuple[str, dict[str, Any], bool]] = [
    ("without a selector any node is eligible", {}, FITS),
    ("nodeSelector: the node has the label", {"nodeSelector": {"disktype": "ssd"}}, FITS),
    ("nodeSelector: another value", {"nodeSelector": {"disktype": "hdd"}}, NOT),
    ("nodeSelector: a label that is absent", {"nodeSelector": {"gpu": "a100"}}, NOT),
    ("nodeSelector: an empty value is a value", {"nodeSelector": {"empty": ""}}, FITS),
    ("nodeSelector: an empty value of an absent label", {"nodeSelector": {"gpu": ""}}, NOT),
    (
        "nodeSelector: each of the labels",
        {"nodeSelector": {"disktype": "ssd", "zone": "east-1"}},
        FITS,
    ),
    (
        "nodeSelector: all labels, not some",
        {"nodeSelector": {"disktype": "ssd", "zone": "west-1"}},
        NOT,
    ),
    (
        "nodeSelector and nodeAffinity: both must be satisfied",
        {"nodeSelector": {"disktype": "ssd"}, **affinity(term(MATCHES))},
        FITS,
    ),
    (
        "nodeSelector and nodeAffinity: one of them is not enough",
        {"nodeSelector": {"disktype": "ssd"}, **affinity(term(DIFFERS))},
        NOT,
    ),
    ("In: the value is in the set", label("zone", "In", "west-1", "east-1"), FITS),
    ("In: the value is not in the set", label("zone", "In", "west-1"), NOT),
    ("In: the label is absent", label("gpu", "In", "a100"), NOT),
    ("In: an empty value in the set, label absent", label("gpu", "In", ""), NOT),
    ("In: without values nothing matches", label("zone", "In"), NOT),
    ("NotIn: the value is not in the set", label("zone", "NotIn", "west-1"), FITS),
    ("NotIn: the value is in the set", label("zone", "NotIn", "west-1", "east-1"), NOT),
    ("NotIn: the label is absent", label("gpu", "NotIn", "a100"), FITS),
    ("NotIn: without values nothing matches", label("zone", "NotIn"), NOT),
    ("NotIn: what is no label value matches nothing", label("zone", "NotIn", "not a value"), NOT),
    ("Exists: the label is there", label("empty", "Exists"), FITS),
    ("Exists: the label is absent", label("gpu", "Exists"), NOT),
    ("Exists: with values nothing matches", label("zone", "Exists", "east-1"), NOT),
    ("DoesNotExist: the label is absent", label("gpu", "DoesNotExist"), FITS),
    ("DoesNotExist: the label is there", label("empty", "DoesNotExist"), NOT),
    ("DoesNotExist: with values nothing matches", label("gpu", "DoesNotExist", "x"), NOT),
    ("Gt: the label is greater", label("generation", "Gt", "2"), FITS),
    ("Gt: numbers, not text", label("generation", "Lt", "10"), FITS),
    ("Gt: an equal value is not greater", label("generation", "Gt", "3"), NOT),
    ("Gt: a negative number is no label value", label("generation", "Gt", "-4"), NOT),
    ("Gt: a label that is no number", label("zone", "Gt", "1"), NOT),
    ("Gt: the label is absent", label("gpu", "Gt", "1"), NOT),
    ("Gt: a value that is no number", label("generation", "Gt", "x"), NOT),
    ("Gt: a fraction is no number", label("generation", "Gt", "2.5"), NOT),
    ("Gt: underscores are Python's", label("generation", "Gt", "0_1"), NOT),
    ("Gt: leading zeros are decimal", label("generation", "Gt", "002"), FITS),
    ("Gt: exactly one value", label("generation", "Gt", "1", "2"), NOT),
    ("Gt: without a value", label("generation", "Gt"), NOT),
    ("Gt: more than 64 bits", label("generation", "Lt", str(2**63)), NOT),
    ("Lt: the largest of 64 bits", label("generation", "Lt", str(2**63 - 1)), FITS),
    ("Lt: the label is less", label("generation", "Lt", "4"), FITS),
    ("Lt: an equal value is not less", label("generation", "Lt", "3"), NOT),
    ("an operator that does not exist matches nothing", label("zone", "Near", "east-1"), NOT),
    ("without an operator nothing matches", label("zone", "", "east-1"), NOT),
    ("matchExpressions of a term are ANDed", affinity(term(MATCHES, DIFFERS)), NOT),
    (
        "matchExpressions of a term are ANDed: all",
        affinity(term(MATCHES, ("zone", "Exists", []))),
        FITS,
    ),
    ("nodeSelectorTerms are ORed", affinity(term(DIFFERS), term(MATCHES)), FITS),
    ("nodeSelectorTerms are ORed: none", affinity(term(DIFFERS), term(("gpu", "Exists", []))), NOT),
    (
        "a term that cannot be read does not spoil others",
        affinity(term(("zone", "Near", [])), term(MATCHES)),
        FITS,
    ),
    ("an empty term matches no objects", affinity({}), NOT),
    ("a null term matches no objects", affinity({"matchExpressions": None}), NOT),
    ("an empty term does not spoil others", affinity({}, term(MATCHES)), FITS),
    ("no terms match no objects", affinity(), NOT),
    ("required left out is no requirement", {"affinity": {"nodeAffinity": {}}}, FITS),
    (
        "preferred is no requirement",
        {
            "affinity": {
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 1, "preference": term(DIFFERS)}
                    ]
                }
            }
        },
        FITS,
    ),
    ("matchFields: the node's name", affinity(named("In", "slurm")), FITS),
    ("matchFields: another node's name", affinity(named("In", "other")), NOT),
    ("matchFields: NotIn", affinity(named("NotIn", "other")), FITS),
    ("matchFields: NotIn its name", affinity(named("NotIn", "slurm")), NOT),
    ("matchFields: exactly one value", affinity(named("In", "slurm", "other")), NOT),
    ("matchFields: no other operators", affinity(named("Exists")), NOT),
    ("matchFields: no other fields", affinity(named("NotIn", "x", key="metadata.uid")), NOT),
    ("matchFields are ORed with other terms", affinity(named("In", "other"), term(MATCHES)), FITS),
    (
        "matchFields and matchExpressions of a term are ANDed",
        affinity(term(DIFFERS, **named("In", "slurm"))),
        NOT,
    ),
]


def taint(effect: str, key: str = "key1", value: str = "value1") -> dict[str, str]:
    return {"key": key, "value": value, "effect": effect}


def tolerating(**toleration: Any) -> dict[str, Any]:
    return {"tolerations": [toleration]}


NO_SCHEDULE, NO_EXECUTE, PREFER = (
    taint(effect) for effect in ("NoSchedule", "NoExecute", "PreferNoSchedule")
)

TAINTS: list[tuple[str, list[dict[str, str]], dict[str, Any], bool]] = [
    ("no taints", [], {}, FITS),
    ("NoSchedule: not scheduled without a toleration", [NO_SCHEDULE], {}, NOT),
    ("NoExecute: not scheduled without a toleration", [NO_EXECUTE], {}, NOT),
    ("PreferNoSchedule: a preference", [PREFER], {}, FITS),
    (
        "Equal: key, value and effect are the same",
        [NO_SCHEDULE],
        tolerating(key="key1", operator="Equal", value="value1", effect="NoSchedule"),
        FITS,
    ),
    (
        "Equal is the default",
        [NO_SCHEDULE],
        tolerating(key="key1", value="value1", effect="NoSchedule"),
        FITS,
    ),
    ("Equal: another value", [NO_SCHEDULE], tolerating(key="key1", value="value2"), NOT),
    ("Equal: a value left out is empty", [NO_SCHEDULE], tolerating(key="key1"), NOT),
    (
        "Equal: an empty value equals one left out",
        [{"key": "key1", "effect": "NoSchedule"}],
        tolerating(key="key1", value=""),
        FITS,
    ),
    ("Exists: any value", [NO_SCHEDULE], tolerating(key="key1", operator="Exists"), FITS),
    ("Exists: another key", [NO_SCHEDULE], tolerating(key="key2", operator="Exists"), NOT),
    (
        "an empty key with Exists tolerates everything",
        [NO_SCHEDULE],
        tolerating(operator="Exists"),
        FITS,
    ),
    (
        "an empty effect matches all effects of the key",
        [NO_SCHEDULE, NO_EXECUTE],
        tolerating(key="key1", operator="Exists"),
        FITS,
    ),
    (
        "another effect",
        [NO_SCHEDULE],
        tolerating(key="key1", operator="Exists", effect="NoExecute"),
        NOT,
    ),
    (
        "what is not tolerated of several counts",
        [NO_SCHEDULE, taint("NoSchedule", key="key2")],
        tolerating(key="key1", operator="Exists"),
        NOT,
    ),
    (
        "what is not tolerated may be PreferNoSchedule",
        [NO_SCHEDULE, PREFER],
        tolerating(key="key1", operator="Exists", effect="NoSchedule"),
        FITS,
    ),
    (
        "several tolerations, each for a taint",
        [NO_SCHEDULE, taint("NoExecute", key="key2")],
        {
            "tolerations": [
                {"key": "key1", "operator": "Exists"},
                {"key": "key2", "operator": "Exists", "tolerationSeconds": 10},
            ]
        },
        FITS,
    ),
    (
        "an operator that does not exist tolerates nothing",
        [NO_SCHEDULE],
        tolerating(key="key1", operator="Near", value="value1"),
        NOT,
    ),
    *(
        (f"{operator}: {why}", [taint("NoSchedule", value=of_taint)], spec, fits)
        for operator, of_taint, value, fits, why in [
            ("Gt", "950", "900", FITS, "the taint is greater"),
            ("Gt", "900", "900", NOT, "an equal value is not greater"),
            ("Gt", "1000", "900", FITS, "numbers, not text"),
            ("Gt", "high", "900", NOT, "a taint that is no number"),
            ("Gt", "950", "low", NOT, "a toleration that is no number"),
            ("Gt", "950", "0900", NOT, "leading zeros are not canonical"),
            ("Gt", "950", "+900", NOT, "a plus is not canonical"),
            ("Gt", "0", "-0", NOT, "a negative zero is not canonical"),
            ("Gt", str(2**63), "1", NOT, "more than 64 bits"),
            ("Lt", "850", "900", FITS, "the taint is less"),
            ("Lt", "-3", "0", FITS, "a negative number"),
            ("Lt", "900", "900", NOT, "an equal value is not less"),
        ]
        for spec in [tolerating(key="key1", operator=operator, value=value)]
    ),
]


@pytest.mark.claim("K22")
@pytest.mark.parametrize(
    ("spec", "fits"), [pytest.param(spec, fits, id=rule) for rule, spec, fits in SELECTION]
)
def test_selection(pod: Make, node: Make, spec: dict[str, Any], fits: bool) -> None:
    assert (verdict(pod(**spec), [node(labels=LABELS)]).node == "slurm") is fits


@pytest.mark.claim("K22")
@pytest.mark.parametrize(
    ("taints", "spec", "fits"),
    [pytest.param(taints, spec, fits, id=rule) for rule, taints, spec, fits in TAINTS],
)
def test_taints(
    pod: Make, node: Make, taints: list[dict[str, str]], spec: dict[str, Any], fits: bool
) -> None:
    asking = pod(**{"tolerations": [], **spec})
    assert (verdict(asking, [node(taints=taints)]).node == "slurm") is fits


@pytest.mark.claim("K22")
@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        pytest.param({}, NOT, id="cordoned: not without a toleration"),
        pytest.param(tolerating(operator="Exists"), FITS, id="cordoned: everything is tolerated"),
        pytest.param(
            tolerating(key="node.kubernetes.io/unschedulable", operator="Exists"),
            FITS,
            id="cordoned: its taint is tolerated, as DaemonSets do",
        ),
        pytest.param(
            tolerating(
                key="node.kubernetes.io/unschedulable", operator="Exists", effect="NoExecute"
            ),
            NOT,
            id="cordoned: another effect is tolerated",
        ),
    ],
)
def test_cordon(pod: Make, node: Make, spec: dict[str, Any], fits: bool) -> None:
    cordoned = node(unschedulable=True, taints=[])
    assert (verdict(pod(**{"tolerations": [], **spec}), [cordoned]).node == "slurm") is fits
