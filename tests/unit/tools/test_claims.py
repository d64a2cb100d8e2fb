"""What counts as a claim shown, and that the declared claims are whole."""

import re
import tomllib
from pathlib import Path

import pytest
from tests.tools import claims

from slurmlab.image import SUITES

TESTS = Path(__file__).parents[2]
FIRST = claims.Release(suite="trixie", slurm="24.11", claims="FJ")
SECOND = claims.Release(suite="sid", slurm="26.05", claims="J")


@pytest.mark.parametrize(
    ("results", "first", "second"),
    [
        ({}, "no test has run", "no test has run"),
        ({"trixie": {"J1": {"t": "passed"}}}, None, "no test has run"),
        ({"trixie": {"J1": {"t": "passed"}}, "sid": {"J1": {"t": "passed"}}}, None, None),
        ({"": {"J1": {"u": "passed"}}}, None, None),
        # A unit test says nothing about a lab where the claim's tests did not run.
        ({"": {"J1": {"u": "passed"}}, "sid": {"J1": {"t": "passed"}}}, "no test has run", None),
        (
            {"": {"J1": {"u": "failed"}}, "sid": {"J1": {"t": "passed"}}},
            "no test has run",
            "not every test passed",
        ),
        ({"": {"J1": {"u": "passed", "v": "skipped"}}}, None, None),
        ({"": {"J1": {"u": "skipped"}}}, "every test was skipped", "every test was skipped"),
    ],
)
def test_a_gap_is_seen_on_each_release(
    results: claims.Results, first: str | None, second: str | None
) -> None:
    assert claims.gap("J1", FIRST, results) == first
    assert claims.gap("J1", SECOND, results) == second


def test_a_claim_is_asked_for_where_it_is_made() -> None:
    printed = list(claims.lines({"F1": "one", "J1": "two"}, [FIRST, SECOND], {}))
    assert [line.split()[0] for line, gap in printed if gap] == ["24.11", "24.11", "26.05"]


def test_results_of_tests_that_are_gone_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("class TestX:\n    def test_b(self) -> None: ...\n")
    tests = {"test_a.py::TestX::test_b[1]": "passed", "test_a.py::test_c": "passed"}
    left = claims.existing({"sid": {"J1": tests | {"test_z.py::test_b": "passed"}}}, tmp_path)
    assert list(left["sid"]["J1"]) == ["test_a.py::TestX::test_b[1]"]


def test_tests_and_declared_claims_fit() -> None:
    declared = tomllib.loads((TESTS / "claims.toml").read_text())
    marks = re.compile(r"""mark\.claim\(([^)]*)\)""")
    used = {
        number
        for file in TESTS.rglob("test_*.py")
        for arguments in marks.findall(file.read_text())
        for number in re.findall(r'"(\w+)"', arguments)
    }
    # Golden tests take the number from the name of their file.
    used |= {file.name.partition("-")[0] for file in TESTS.rglob("golden/*/*.in.yaml")}
    assert used == set(declared["claims"])
    assert tuple(declared["releases"]) == SUITES
