"""Requests in files, golden/KIND/NUMBER-NAME.in.yaml, and what is decided on them in files beside:
the patch (NAME.patch.json), the warnings, one a line (NAME.warnings), the denial (NAME.denial),
each where there is one. `pytest --update-golden` writes these.

NUMBER is the claim. Of a warning or denial its line in tests/claims.toml is the text, with {places}
for what differs.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from slurmlet.webhook.decision import Decision

CLAIMS: Mapping[str, str] = tomllib.loads((Path(__file__).parents[2] / "claims.toml").read_text())[
    "claims"
]


def files(kind: str) -> list[Path]:
    """The requests of a kind."""
    return sorted((Path(__file__).parent / "golden" / kind).glob("*.in.yaml"))


def claim_of(path: Path) -> str:
    return path.name.partition("-")[0]


def cases(kind: str) -> list[Any]:
    """Parameters for a test of each request, marked with its claim."""
    return [
        pytest.param(path, id=path.name.partition(".")[0], marks=pytest.mark.claim(claim_of(path)))
        for path in files(kind)
    ]


def check(path: Path, decision: Decision, *, update: bool) -> None:
    """Compare a decision with the files beside its request, or write these."""
    texts = {
        "warnings": "".join(f"{line}\n" for line in decision.warnings),
        "denial": f"{decision.denial}\n" if decision.denial else "",
        "patch.json": json.dumps(decision.patch, indent=2) + "\n" if decision.patch else "",
    }
    stem = path.name.removesuffix(".in.yaml")
    beside = {suffix: path.with_name(f"{stem}.{suffix}") for suffix in texts}
    if update:
        for suffix, file in beside.items():
            file.unlink(missing_ok=True)
            if texts[suffix]:
                file.write_text(texts[suffix])
    expected = {suffix: file.read_text() for suffix, file in beside.items() if file.exists()}
    assert {suffix: text for suffix, text in texts.items() if text} == expected


def messages(kind: str) -> list[str]:
    """The claims of a kind's requests that are the text of a warning or denial."""
    numbers = {claim_of(path) for path in files(kind)}
    return sorted(n for n in numbers if CLAIMS[n].startswith(("warning: ", "denial: ")))


def is_said(number: str, decisions: Iterable[Decision]) -> bool:
    """Whether one of the decisions tells a claim's text; others may show where it is not told."""
    kind, _, text = CLAIMS[number].partition(": ")
    pattern = re.compile(".+?".join(re.escape(part) for part in re.split(r"\{\w+\}", text)))
    told = [
        line
        for decision in decisions
        for line in (decision.warnings if kind == "warning" else (decision.denial or "",))
    ]
    return any(pattern.search(line) for line in told)
