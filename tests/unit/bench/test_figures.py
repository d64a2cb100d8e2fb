"""Quantiles and the table of bench-join."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.figures import Figure, median, quantile, replace_section, seconds, table

PROBE = Path(__file__).parents[2] / "bench" / "probe.py"
SAMPLES = st.lists(st.floats(0, 1e6), min_size=1)


@given(SAMPLES, st.floats(0, 1))
def test_a_quantile_lies_between_the_ends(samples: list[float], share: float) -> None:
    assert min(samples) <= quantile(samples, share) <= max(samples)


def test_quantiles_are_those_that_one_expects() -> None:
    assert median([3, 1, 2]) == 2
    assert median([1, 2]) == 1.5
    assert quantile(range(101), 0.99) == 99


def test_the_table_says_what_is_missed_and_why() -> None:
    rows = table(
        [
            Figure(what="one", value="1 ms"),
            Figure(what="two", value="2 ms", aim="≤ 3 ms", met=True),
            Figure(what="three", value="4 ms", aim="≤ 3 ms", met=False, cause="slow"),
        ]
    ).splitlines()
    assert rows[:2] == ["| what | figure | aim |  |", "|---|---|---|---|"]
    assert rows[2:] == [
        "| one | 1 ms |  |  |",
        "| two | 2 ms | ≤ 3 ms | met |",
        "| three | 4 ms | ≤ 3 ms | **missed**: slow |",
    ]


def test_seconds_are_told_as_milliseconds() -> None:
    assert seconds([0.1, 0.2, 0.3]) == "p50 200 ms, p95 290 ms"


def test_a_section_of_a_page_is_replaced_and_nothing_else() -> None:
    page = "before\n<!-- x -->\nold\n<!-- /x -->\nafter\n"
    wanted = "before\n<!-- x -->\nnew\n<!-- /x -->\nafter\n"
    assert replace_section(page, name="x", text="new\n") == wanted
    for broken in ("", page + page):
        with pytest.raises(ValueError, match="not one section"):
            replace_section(broken, name="x", text="new\n")


def probe(**specification: Any) -> "subprocess.CompletedProcess[str]":
    given = {"rounds": 2, "warmup": 1, "rotate": True, **specification}
    argv = [sys.executable, str(PROBE), json.dumps(given)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_the_probe_times_each_command_in_each_round(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f'echo "$WHO {{n}} $(cat)" >>{log}'
    commands = [
        {"name": who, "argv": ["sh", "-c", script], "environment": {"WHO": who}, "input": "in"}
        for who in ("a", "b")
    ]
    samples = json.loads(probe(commands=commands).stdout)
    assert [len(samples[name]) for name in ("a", "b")] == [2, 2]
    assert min(samples["a"]) > 0
    turns = ["a 0 in", "b 0 in", "b 1 in", "a 1 in", "a 2 in", "b 2 in"]
    assert log.read_text().splitlines() == turns


def test_a_command_that_fails_is_no_figure() -> None:
    done = probe(commands=[{"name": "x", "argv": ["sh", "-c", "echo why; exit 3"]}])
    assert done.returncode == 1
    assert "code 3: why" in done.stderr
