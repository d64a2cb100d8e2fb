"""Results of numbered claims, kept for `make claims`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[1] / "build" / "claims.json"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if report.when != "call" and report.passed:
        return
    for mark in item.iter_markers("claim"):
        for number in mark.args:
            item.session.config.stash.setdefault(_KEY, {})[f"{number} {item.nodeid}"] = (
                report.outcome
            )


_KEY: pytest.StashKey[dict[str, str]] = pytest.StashKey()


def pytest_sessionfinish(session: pytest.Session) -> None:
    fresh = session.config.stash.get(_KEY, {})
    if not fresh:
        return
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(known | fresh, indent=1, sort_keys=True))
