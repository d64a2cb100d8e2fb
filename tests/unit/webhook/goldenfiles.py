"""Admission requests in files, and what is decided on them.

NUMBER-NAME.in.yaml is a request (CREATE if it names no operation) and the policy that it meets, if
it is not an empty one. Beside it are the patch (NAME.patch.json), the warnings, one a line
(NAME.warnings), and the denial (NAME.denial), each where there is one. NUMBER is the claim.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmlet.contracts import codec
from slurmlet.contracts.policy import Snapshot
from slurmlet.webhook.decision import Decision

Decide = Callable[[Mapping[str, Any], Snapshot], Decision]

CLAIMS: Mapping[str, str] = tomllib.loads((Path(__file__).parents[2] / "claims.toml").read_text())[
    "claims"
]


def cases(directory: str) -> list[Any]:
    """Parameters for a test, each marked with its claim."""
    found = sorted((Path(__file__).parent / "golden" / directory).glob("*.in.yaml"))
    assert found
    return [
        pytest.param(path, marks=pytest.mark.claim(name.split("-")[0]), id=name)
        for path in found
        for name in [path.name.removesuffix(".in.yaml")]
    ]


def read(path: Path) -> tuple[dict[str, Any], Snapshot]:
    """The request in a file, and its policy."""
    request = yaml.safe_load(path.read_text())
    policy = codec.decode(Snapshot, request.pop("policy", {}), path="policy")
    return {"operation": "CREATE", "namespace": "alice", **request}, policy


def check(path: Path, decide: Decide, *, update: bool) -> Decision:
    """Compare the decision on a file's request with the files beside it, or write these."""
    decision = decide(*read(path))
    base = path.name.removesuffix(".in.yaml")
    texts = {
        "patch.json": json.dumps(decision.patch, indent=2) + "\n" if decision.patch else "",
        "warnings": "".join(f"{warning}\n" for warning in decision.warnings),
        "denial": f"{decision.denial}\n" if decision.denial else "",
    }
    for kind, text in texts.items():
        beside = path.with_name(f"{base}.{kind}")
        if update and text:
            beside.write_text(text)
        elif update:
            beside.unlink(missing_ok=True)
        assert (beside.read_text() if beside.exists() else "") == text
    _check_claim(CLAIMS[base.split("-")[0]], decision)
    return decision


def _check_claim(claim: str, decision: Decision) -> None:
    """A claim of a warning or denial is its exact text, with <PLACES> for what differs."""
    kind, _, text = claim.partition(": ")
    if kind in ("warning", "denial"):
        said = decision.warnings if kind == "warning" else (decision.denial or "",)
        pattern = re.sub(r"<[A-Z]+>", ".+", re.escape(text))
        assert any(re.fullmatch(pattern, one) for one in said), (text, said)
