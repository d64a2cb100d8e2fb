"""What came of the tests: results of numbered claims for `make claims`, as
{release: {claim: {test: outcome}}}, and failures for the end of what `make test` prints."""

import fcntl
import json
from pathlib import Path

import pytest
from hypothesis import settings

RESULTS = Path(__file__).parents[1] / "build" / "claims" / "results.json"
FAILURES = "failures"
"""The file beside it with a line for each test that failed; `tests/tools/tier report` prints it."""
LINE = 400
"""Characters of a failure's line: with the test's name enough to know it again."""
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
        self._failures: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._failures.append(failure(report, release=EVERYWHERE))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        release = str(dict(report.user_properties).get("release", EVERYWHERE))
        if report.failed:
            self._failures.append(failure(report, release=release))
        for name, number in report.user_properties:
            if name == "claim":
                tests = self._fresh.setdefault(release, {}).setdefault(str(number), {})
                # A test that passed may yet fail in its teardown, and not the other way about.
                if tests.get(report.nodeid) != "failed":
                    tests[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        if self._fresh:
            add(self._fresh, file=RESULTS)
        if self._failures:
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            with RESULTS.with_name(FAILURES).open("a") as held:
                held.writelines(self._failures)


def failure(report: pytest.TestReport | pytest.CollectReport, *, release: str) -> str:
    """One line: which test failed, where, and its error."""
    said = report.longreprtext.splitlines()
    # pytest marks the lines of the error itself with an E.
    error = [line[1:].strip() for line in said if line.startswith("E ")] or said[-1:]
    text = f"{report.nodeid}, {report.when}: {' '.join(error)[:LINE]}"
    return f"{release}: {text}\n" if release else f"{text}\n"


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
