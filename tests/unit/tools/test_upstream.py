"""Kubernetes' own specs: what is chosen, and when the list of exceptions is wrong."""

import re

from hypothesis import given
from hypothesis import strategies as st
from tests.e2e import upstream
from tests.e2e.upstream import Choice, Spec, literal, parse, problems, read_choice, summary

CHOICE = Choice(focus="Pods", slow=("slow one",), exceptions={"known": "no exec", "slow one": "x"})
JUNIT = """<?xml version="1.0"?>
<testsuites><testsuite>
<testcase name="[SynchronizedBeforeSuite]" status="passed" time="1"/>
<testcase name="[It] other [x] [x, y]" status="skipped"><skipped message="skipped"/></testcase>
<testcase name="[It] self [x] [x, y]" status="skipped"><skipped message="skipped - GPU"/></testcase>
<testcase name="[It] good [x] [x, y]" status="passed" time="1.5"/>
<testcase name="[It] bad [x] [x, y]" status="timedout" time="2"><failure message="">why
more</failure></testcase>
</testsuite></testsuites>"""


def spec(name: str, outcome: str) -> Spec:
    return Spec(name=name, outcome=outcome, seconds=1, message="why")


def test_a_report_gives_the_specs_that_were_chosen() -> None:
    assert [(each.name, each.outcome, each.message) for each in parse(JUNIT)] == [
        ("bad [x]", "failed", "why"),
        ("good [x]", "passed", ""),
        ("self [x]", "skipped", "skipped - GPU"),
    ]


def test_a_list_that_says_what_happens_is_no_problem() -> None:
    specs = [spec("known", "failed"), spec("good", "passed")]
    assert list(problems(specs, CHOICE, slow=False)) == []
    assert list(summary(specs, CHOICE))[-1] == "2 specs: 1 passed, 1 failed, 0 skipped"
    assert "no exec" in "\n".join(summary(specs, CHOICE))


def test_each_disagreement_with_the_list_is_told() -> None:
    specs = [spec("known", "passed"), spec("bad", "failed"), spec("self", "skipped")]
    assert list(problems(specs, CHOICE, slow=True)) == [
        "passes, take it off the list: known",
        "fails: bad: why",
        "skips itself: self: why",
        "is on the list and was not run: slow one",
    ]


def test_what_was_not_run_is_told() -> None:
    assert list(problems([], CHOICE, slow=False)) == ["is on the list and was not run: known"]


def test_slow_specs_are_left_out_by_name() -> None:
    choice = read_choice(upstream.LIST.read_text())
    flags = choice.flags(slow=False)
    assert flags[0] == f"--focus={choice.focus}"
    assert len(flags) == 1 + len(choice.slow)
    assert choice.flags(slow=True) == flags[:1]
    for name in (*choice.slow, *choice.exceptions):
        assert re.search(choice.focus, name), "only what is chosen can be listed"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_a_literal_matches_its_text(text: str) -> None:
    assert re.fullmatch(literal(text), text)
