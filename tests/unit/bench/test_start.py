"""What bench-start makes of the moments that were measured."""

from collections.abc import Mapping, Sequence

import pytest
from tests.bench import start, stopwatch
from tests.bench.figures import Figure

STAGES = ("created", "bound", "submitted", "exec", "planned", "line", "plan", "deleted", "gone")


def rows(*, running: float, lines: Sequence[float] = (0.01,)) -> Mapping[str, Figure]:
    job = {"script": [0.1, 0.2, 0.3], "process": [0.3]}
    pod = {stage: [0.1] for stage in STAGES} | {"running": [running]}
    runs = start.Runs(
        jobs=dict.fromkeys(("bare", *start.ENGINES), job),
        pods=dict.fromkeys(start.ENGINES, pod),
        lines=lines,
    )
    return {row.what: row for row in start.rows(runs, [10.0, 14.0])}


@pytest.mark.parametrize(("running", "met"), [(0.69, True), (0.71, False)])
def test_a_pods_start_is_held_against_the_bare_jobs(running: float, met: bool) -> None:
    row = rows(running=running)["pod (crun) created → Running at a watch"]
    assert row.met is met
    assert f"{running * 1000 - 200:+.0f} ms over the bare job" in row.value


def test_a_missed_aim_says_where_the_time_goes() -> None:
    row = rows(running=2.0)["pod (crun) created → Running at a watch"]
    assert "bound 100, submitted 100" in row.verdict
    assert "running 2000" in row.verdict
    assert rows(running=2.0, lines=[0.3])["a line written → seen by `kubectl logs -f`"].met is False


def test_times_of_logs_are_read() -> None:
    assert stopwatch.moment("1970-01-01T00:00:01.500000000Z") == 1.5
    assert stopwatch.moment("1970-01-01T00:01:00Z") == 60
