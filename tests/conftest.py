"""Results of numbered claims, kept for `make claims`: {release: {claim: {test: outcome}}}."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[1] / "build" / "claims" / "results.json"
EVERYWHERE = ""
"""The release of a test that needs no Slurm."""

Results = dict[str, dict[str, dict[str, str]]]
_KEY: pytest.StashKey[Results] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-claims",
        action="store_true",
        help="of the e2e tests only those of the claims that tests/claims.toml makes for a release",
    )


def numbers(node: pytest.Item) -> list[str]:
    """The claims that a test proves."""
    return [str(number) for mark in node.iter_markers("claim") for number in mark.args]


@pytest.fixture
def proven() -> None:
    """Stands for a test's claims in its id."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The id of a test ends with the numbers of its claims; `-k J1` finds it."""
    if found := numbers(metafunc.definition):
        metafunc.fixturenames.append("proven")
        metafunc.parametrize("proven", [None], ids=["-".join(found)], indirect=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if report.when != "call" and report.passed:
        return
    release = str(dict(item.user_properties).get("release", EVERYWHERE))
    fresh = item.session.config.stash.setdefault(_KEY, {}).setdefault(release, {})
    for number in numbers(item):
        tests = fresh.setdefault(number, {})
        # A test that passed may yet fail in its teardown, and not the other way about.
        if tests.get(item.nodeid) != "failed":
            tests[item.nodeid] = report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    fresh = session.config.stash.get(_KEY, {})
    if not any(fresh.values()):
        return
    known: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for release, claims in fresh.items():
        for number, tests in claims.items():
            known.setdefault(release, {}).setdefault(number, {}).update(tests)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True))
