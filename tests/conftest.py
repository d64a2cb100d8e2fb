"""Results of numbered claims, kept for `make claims`: {release: {claim: {test: outcome}}}."""

import fcntl
import json
from pathlib import Path

import pytest
from hypothesis import settings

RESULTS = Path(__file__).parents[1] / "build" / "claims" / "results.json"
EVERYWHERE = ""
"""The release of a test that needs no Slurm."""

Results = dict[str, dict[str, dict[str, str]]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-claims",
        action="store_true",
        help="of the e2e tests only those of the claims that tests/claims.toml makes for a release",
    )
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what golden tests find into their files, to be looked at with git diff",
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


def pytest_configure(config: pytest.Config) -> None:
    # Hypothesis gives each example 200 ms, which a busy machine takes for nothing.
    settings.register_profile("busy", settings.default, deadline=None)
    settings.load_profile("busy")
    # With `-n`, reports of all workers come to the process that started them.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.user_properties += [("claim", number) for number in numbers(item)]


class Recorder:
    """Keeps what came of tests that prove a claim, and adds it to the file at the end."""

    def __init__(self) -> None:
        self._fresh: Results = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        release = str(dict(report.user_properties).get("release", EVERYWHERE))
        for name, number in report.user_properties:
            if name == "claim":
                tests = self._fresh.setdefault(release, {}).setdefault(str(number), {})
                # A test that passed may yet fail in its teardown, and not the other way about.
                if tests.get(report.nodeid) != "failed":
                    tests[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        if self._fresh:
            add(self._fresh, file=RESULTS)


def add(fresh: Results, *, file: Path) -> None:
    """Add results to those in a file; runs on several releases may end at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.seek(0)
        known: Results = json.loads(held.read() or "{}")
        for release, claims in fresh.items():
            for number, tests in claims.items():
                known.setdefault(release, {}).setdefault(number, {}).update(tests)
        held.truncate(0)
        held.write(json.dumps(known, indent=1, sort_keys=True))
