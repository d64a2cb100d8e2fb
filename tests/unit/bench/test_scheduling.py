"""What bench-scheduler makes of the moments at which pods were bound."""

from dataclasses import replace

import pytest
from tests.bench.figures import Figure
from tests.bench.scheduling import OURS, THEIRS, Case, Limit, Run, rows, typical

CASE = Case(who=THEIRS, limit=Limit(qps=50, burst=100), pods=1000)
RUN = Run(
    pods=1000,
    rate=100.0,
    first=0.2,
    p50=5.0,
    p99=10.0,
    start=0.5,
    processor=2.0,
    seconds=10.0,
    rss=80.0,
    peak=90.0,
)


def judged(run: Run, *, case: Case = CASE) -> Figure:
    theirs, ours = rows({case: [RUN], replace(case, who=OURS): [run]})
    assert theirs.met is None
    return ours


def test_a_rate_counts_from_the_first_pod_and_times_from_each_ones_beginning() -> None:
    bound = {"a": 12.0, "b": 13.0, "c": 14.0}
    since = {"a": 10.0, "b": 12.0, "c": 11.0}
    run = Run.of(bound, since=since, start=1, processor=0.6, seconds=6, rss=1, peak=2)
    assert (run.pods, run.rate, run.first, run.p50) == (3, 1.0, 1.0, 2.0)
    assert run.cost == pytest.approx(200)
    assert run.share == pytest.approx(0.1)


def test_one_pod_has_no_rate() -> None:
    assert (
        Run.of({"a": 2.0}, since={"a": 1.0}, start=1, processor=1, seconds=1, rss=1, peak=1).rate
        == 0
    )


def test_several_runs_have_the_median_of_each_figure() -> None:
    several = [replace(RUN, rate=rate, p99=p99) for rate, p99 in ((1, 9), (2, 7), (30, 8))]
    assert typical(several) == replace(RUN, rate=2, p99=8)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (RUN, "met"),
        (replace(RUN, rate=99.0, p99=10.1), "met"),
        (replace(RUN, rate=90.0), "rate: 90.0 to 90.0 pods/s in turns, 100 to 100 there"),
        (replace(RUN, p99=11.0, first=1.3), "there; it takes 1.10 s more to start"),
        (replace(RUN, p99=11.0, first=0.3), "p99: 11.0 to 11.0 s in turns, 10.0 to 10.0 there"),
        (replace(RUN, peak=151.0), "RSS: 151 MiB at most"),
    ],
)
def test_ours_is_held_against_kube_scheduler(run: Run, said: str) -> None:
    assert said in judged(run).verdict


def test_a_steady_load_is_told_in_milliseconds_and_a_late_start_is_no_excuse_there() -> None:
    case = replace(CASE, rate=50, known=10_000)
    row = judged(replace(RUN, p99=11.0, first=1.3), case=case)
    assert row.what == "50 pods/s beside 10,000 that wait, QPS 50/100: slurmlet-scheduler"
    assert "p99 11000 ms" in row.value
    assert "to start" not in row.verdict
