"""What the webhook says of and does to each of golden/pods/*.in.yaml: the pod as alice creates it,
or as she changes it, if a second document has it as it was. The rest is written by
`pytest --update-golden`.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmlet.contracts.identity import Identity, IdentityMap
from slurmlet.contracts.policy import NodeSize, Snapshot
from slurmlet.contracts.request import RequestPolicy
from slurmlet.webhook.decision import Decision
from slurmlet.webhook.pods import mutate

FILES = sorted((Path(__file__).parent / "golden" / "pods").glob("*.in.yaml"))
CLAIMS: Mapping[str, str] = tomllib.loads((Path(__file__).parents[2] / "claims.toml").read_text())[
    "claims"
]
SITE = Snapshot(
    identities=IdentityMap(
        namespaces={
            "alice": Identity(user="alice", accounts=("phys",), partitions=("cpu", "debug"))
        }
    ),
    partitions={
        "cpu": NodeSize(cpus=16, memory=64000, gres={"gpu": 2}),
        "debug": NodeSize(cpus=4, memory=8000),
    },
    engines=("crun", "apptainer"),
    request=RequestPolicy(options={"qos": "normal"}, locks={"wckey": "site"}),
)
"""What all of them are judged by."""


def claim_of(path: Path) -> str:
    return path.name.partition("-")[0]


def decide(path: Path) -> Decision:
    pod, *before = yaml.safe_load_all(path.read_text())
    request: dict[str, Any] = {
        "operation": "UPDATE" if before else "CREATE",
        "namespace": pod["metadata"]["namespace"],
        "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
        "object": pod,
    }
    return mutate(request | ({"oldObject": before[0]} if before else {}), SITE)


def outputs(decision: Decision) -> dict[str, str]:
    """The golden files of a decision by what they end with; one that is not there is empty."""
    lines = {
        "warnings": "".join(f"{line}\n" for line in decision.warnings),
        "denial": f"{decision.denial}\n" if decision.denial else "",
        "patch.json": json.dumps(decision.patch, indent=2) + "\n" if decision.patch else "",
    }
    return {suffix: text for suffix, text in lines.items() if text}


def pattern(claim: str) -> re.Pattern[str]:
    """A claim's line with its placeholders, as what is said."""
    return re.compile(".+?".join(re.escape(part) for part in re.split(r"\{\w+\}", claim)))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.name.partition(".")[0], marks=pytest.mark.claim(claim_of(path)))
        for path in FILES
    ],
)
def test_a_pod_is_answered_as_written_down(
    path: Path, apply: Callable[..., Any], pytestconfig: pytest.Config
) -> None:
    decision = decide(path)
    found = outputs(decision)
    stem = path.name.removesuffix(".in.yaml")
    files = {suffix: path.with_name(f"{stem}.{suffix}") for suffix in ("warnings", "denial")}
    files["patch.json"] = path.with_name(f"{stem}.patch.json")
    if pytestconfig.getoption("update_golden"):
        for suffix, file in files.items():
            file.unlink(missing_ok=True)
            if suffix in found:
                file.write_text(found[suffix])
    assert found == {suffix: file.read_text() for suffix, file in files.items() if file.exists()}
    pod = yaml.safe_load(path.read_text().partition("\n---\n")[0])
    apply(pod, decision.patch)


@pytest.mark.parametrize("claim", sorted({claim_of(path) for path in FILES}))
def test_a_claims_line_is_what_is_said(claim: str) -> None:
    """One of the pods of a claim is told its text; others show where it is not said."""
    told = [
        text
        for path in FILES
        if claim_of(path) == claim
        for decision in [decide(path)]
        for text in (*decision.warnings, decision.denial or "")
    ]
    assert any(pattern(CLAIMS[claim]).search(text) for text in told), told


def test_every_claim_of_admission_has_a_pod() -> None:
    numbers = {number for number in CLAIMS if re.fullmatch(r"W[3-6]\d", number)}
    assert numbers == {claim_of(path) for path in FILES}
