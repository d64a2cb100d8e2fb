"""Prints claim → test → result of the last runs on each Slurm release; fails on a gap.

A claim is shown on a release if a test passed there and none failed. Tests that need no Slurm count
for every release, but do not stand for tests in the lab: a claim that has some must have one there.
"""

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]
EVERYWHERE = ""

Outcomes = Mapping[str, str]
"""Test → outcome."""
Results = Mapping[str, Mapping[str, Outcomes]]
"""Release → claim → outcomes."""


@dataclass(frozen=True, slots=True)
class Release:
    """A Slurm release and the letters of the claims that are made for it."""

    suite: str
    slurm: str
    claims: str


def gap(number: str, release: Release, results: Results) -> str | None:
    """What is missing for a claim on a release, or None."""
    everywhere = results.get(EVERYWHERE, {}).get(number, {})
    here = results.get(release.suite, {}).get(number, {})
    in_labs = any(number in claims for suite, claims in results.items() if suite != EVERYWHERE)
    needed = here if in_labs else everywhere
    if not needed:
        return "no test has run"
    # A skip has its reason in the test; but something must have passed.
    if {*here.values(), *everywhere.values()} - {"passed", "skipped"}:
        return "not every test passed"
    return None if "passed" in needed.values() else "every test was skipped"


def releases(claims: Mapping[str, Mapping[str, str]]) -> list[Release]:
    return [Release(suite=suite, **table) for suite, table in claims.items()]


def existing(results: Results, root: Path) -> Results:
    """Results without those of tests that are gone since."""
    return {
        release: {
            number: {test: outcome for test, outcome in tests.items() if _exists(test, root)}
            for number, tests in claims.items()
        }
        for release, claims in results.items()
    }


def _exists(test: str, root: Path) -> bool:
    path, _, name = test.partition("::")
    function = name.rpartition("::")[2].partition("[")[0]
    file = root / path
    return file.exists() and f"def {function}(" in file.read_text()


def lines(
    claims: Mapping[str, str], made_for: list[Release], results: Results
) -> Iterator[tuple[str, bool]]:
    """What is printed, and whether it is a gap."""
    for number, text in claims.items():
        yield f"{number}  {text}", False
        for title, suite in [("any", EVERYWHERE), *((each.slurm, each.suite) for each in made_for)]:
            for test, result in results.get(suite, {}).get(number, {}).items():
                yield f"      {title:6} {result:8} {test}", False
        for release in made_for:
            if number[0] in release.claims and (missing := gap(number, release, results)):
                yield f"      {release.slurm:6} GAP      {missing}", True


def main() -> int:
    declared = tomllib.loads((TESTS / "claims.toml").read_text())
    claims, made_for = declared["claims"], releases(declared["releases"])
    recorded = TESTS.parent / "build" / "claims" / "results.json"
    results = json.loads(recorded.read_text()) if recorded.exists() else {}
    gaps = 0
    for line, is_gap in lines(claims, made_for, existing(results, TESTS.parent)):
        print(line)
        gaps += is_gap
    for release in made_for:
        wanted = [number for number in claims if number[0] in release.claims]
        shown = [number for number in wanted if gap(number, release, results) is None]
        print(f"Slurm {release.slurm}: {len(shown)} of {len(wanted)} claims shown")
    return 1 if gaps else 0


if __name__ == "__main__":
    sys.exit(main())
