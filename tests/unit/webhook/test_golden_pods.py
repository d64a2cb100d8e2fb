"""What the webhook says of and does to each of golden/pods/*.in.yaml: the pod as alice creates it,
or as she changes it, if a second document has it as it was.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.webhook import goldenfiles

from slurmlet.contracts.identity import Identity, IdentityMap
from slurmlet.contracts.policy import NodeSize, Snapshot
from slurmlet.contracts.request import RequestPolicy
from slurmlet.webhook.decision import Decision
from slurmlet.webhook.pods import mutate

SITE = Snapshot(
    identities=IdentityMap(
        namespaces={
            "alice": Identity(user="alice", accounts=("phys",), partitions=("cpu", "debug"))
        }
    ),
    sizes={
        "cpu": (NodeSize(cpus=16, memory=64000, gres={"gpu": 2}),),
        "debug": (NodeSize(cpus=4, memory=8000),),
    },
    engines=("crun", "apptainer"),
    request=RequestPolicy(options={"qos": "normal"}, locks={"wckey": "site"}),
)
"""What all of them are judged by."""


def decide(path: Path) -> Decision:
    pod, *before = yaml.safe_load_all(path.read_text())
    request: dict[str, Any] = {
        "operation": "UPDATE" if before else "CREATE",
        "namespace": pod["metadata"]["namespace"],
        "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
        "object": pod,
    }
    return mutate(request | ({"oldObject": before[0]} if before else {}), SITE)


@pytest.mark.parametrize("path", goldenfiles.cases("pods"))
def test_a_pod_is_answered_as_written_down(
    path: Path, apply: Callable[..., Any], pytestconfig: pytest.Config
) -> None:
    decision = decide(path)
    goldenfiles.check(path, decision, update=pytestconfig.getoption("update_golden"))
    pod = next(yaml.safe_load_all(path.read_text()))
    apply(pod, decision.patch)


@pytest.mark.parametrize("claim", goldenfiles.messages("pods"))
def test_a_claims_line_is_what_is_said(claim: str) -> None:
    files = [path for path in goldenfiles.files("pods") if goldenfiles.claim_of(path) == claim]
    assert goldenfiles.is_said(claim, map(decide, files))


def test_every_claim_of_admission_has_a_pod() -> None:
    numbers = {number for number in goldenfiles.CLAIMS if re.fullmatch(r"W[3-6]\d", number)}
    assert numbers <= set(map(goldenfiles.claim_of, goldenfiles.files("pods")))
