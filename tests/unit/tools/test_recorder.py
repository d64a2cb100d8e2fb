"""What `make claims` is told of tests that ran, however many processes and runs there were."""

import json
from pathlib import Path
from typing import Literal

import pytest
from tests.conftest import Recorder, add

When = Literal["setup", "call", "teardown"]
Outcome = Literal["passed", "failed", "skipped"]


def report(
    when: When, outcome: Outcome, *, test: str = "t", said: str | None = None
) -> pytest.TestReport:
    properties: list[tuple[str, object]] = [("release", "sid"), ("claim", "J1"), ("claim", "J2")]
    # As it comes from a worker: tuples are lists by then.
    data: dict[str, object] = {
        "nodeid": test,
        "location": ("file", 1, test),
        "keywords": {},
        "outcome": outcome,
        "longrepr": said,
        "when": when,
        "user_properties": [list(each) for each in properties],
    }
    return pytest.TestReport._from_json(data)


@pytest.mark.parametrize(
    ("reports", "result"),
    [
        ([("setup", "passed"), ("call", "passed"), ("teardown", "passed")], "passed"),
        ([("setup", "passed"), ("call", "failed"), ("teardown", "passed")], "failed"),
        ([("setup", "passed"), ("call", "passed"), ("teardown", "failed")], "failed"),
        ([("setup", "failed"), ("teardown", "passed")], "failed"),
        ([("setup", "skipped"), ("teardown", "passed")], "skipped"),
    ],
)
def test_each_claim_of_a_test_gets_its_result(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reports: list[tuple[When, Outcome]],
    result: str,
) -> None:
    file = tmp_path / "results.json"
    monkeypatch.setattr("tests.conftest.RESULTS", file)
    recorder = Recorder()
    for when, outcome in reports:
        recorder.pytest_runtest_logreport(report(when, outcome))
    recorder.pytest_sessionfinish()
    assert json.loads(file.read_text()) == {"sid": {"J1": {"t": result}, "J2": {"t": result}}}


def test_results_of_several_runs_come_together(tmp_path: Path) -> None:
    file = tmp_path / "build" / "results.json"
    add({"sid": {"J1": {"quiet": "failed"}}}, file=file)
    add({"trixie": {"J1": {"quiet": "passed"}}}, file=file)
    add({"sid": {"J1": {"quiet": "passed", "alone": "passed"}}}, file=file)
    assert json.loads(file.read_text()) == {
        "sid": {"J1": {"quiet": "passed", "alone": "passed"}},
        "trixie": {"J1": {"quiet": "passed"}},
    }


def test_failures_are_kept_with_the_error_for_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.conftest.RESULTS", tmp_path / "build" / "results.json")
    text = "def test():\n>   assert 1 == 2\nE   assert 1 == 2\nE    +  where 1\n\nfile.py:3:\n"
    for test, said in (("first", text), ("second", "Timeout (>120.0s) from pytest-timeout")):
        recorder = Recorder()
        recorder.pytest_runtest_logreport(report("call", "failed", test=test, said=said))
        recorder.pytest_runtest_logreport(report("call", "passed", test="other"))
        recorder.pytest_sessionfinish()
    assert (tmp_path / "build" / "failures").read_text().splitlines() == [
        "sid: first, call: assert 1 == 2 +  where 1",
        "sid: second, call: Timeout (>120.0s) from pytest-timeout",
    ]
