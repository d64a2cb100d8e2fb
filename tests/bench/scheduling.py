"""What runs of schedulers come to. Pure."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from tests.bench.figures import Figure, median, number, quantile

OURS, THEIRS = "slurmlet-scheduler", "kube-scheduler"
RSS_AIM = 150.0
"""MiB."""
NOISE = 0.02
"""Share of a rate by which two runs of the same scheduler differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a client may send: requests a second, and how many at once."""

    qps: int
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Who schedules what: so many pods at once, or `rate` a second, beside `known` others."""

    who: str
    limit: Limit
    pods: int
    rate: int | None = None
    known: int = 0

    @property
    def what(self) -> str:
        load = f"burst of {self.pods:,} pods" if self.rate is None else f"{self.rate} pods/s"
        known = f" beside {self.known:,} that wait" if self.known else ""
        return f"{load}{known}, QPS {self.limit.qps}/{self.limit.burst}: {self.who}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Pods bound a second from the first to the last; seconds until they were (`first` is the
    shortest); seconds of a processor until the run began and in it, and how long it was; MiB at its
    end and at most. The run of a burst begins with the first pod that is bound."""

    pods: int
    rate: float
    first: float
    p50: float
    p99: float
    start: float
    processor: float
    seconds: float
    rss: float
    peak: float

    @classmethod
    def of(
        cls,
        bound: Mapping[str, float],
        *,
        since: Mapping[str, float],
        start: float,
        processor: float,
        seconds: float,
        rss: float,
        peak: float,
    ) -> "Run":
        """`bound` and `since` are moments of each pod."""
        took = [moment - since[name] for name, moment in bound.items()]
        span = max(bound.values()) - min(bound.values())
        return cls(
            pods=len(bound),
            rate=(len(bound) - 1) / span if span else 0.0,
            first=min(took),
            p50=median(took),
            p99=quantile(took, 0.99),
            start=start,
            processor=processor,
            seconds=seconds,
            rss=rss,
            peak=peak,
        )

    @property
    def cost(self) -> float:
        """Milliseconds of a processor for each pod."""
        return self.processor / self.pods * 1000

    @property
    def share(self) -> float:
        """Of one processor."""
        return self.processor / self.seconds


def typical(runs: Sequence[Run]) -> Run:
    """The median of each figure."""
    names = [field.name for field in fields(Run)]
    middle = {name: statistics.median(getattr(run, name) for run in runs) for name in names}
    return Run(**middle)


def rows(turns: Mapping[Case, Sequence[Run]]) -> Iterator[Figure]:
    """A row for what each did in its turns; ours are held against kube-scheduler's."""
    for case, runs in turns.items():
        if case.who == THEIRS:
            yield Figure(what=case.what, value=_value(case, typical(runs)))
        else:
            yield _judged(case, runs, others=turns[replace(case, who=THEIRS)])


def _value(case: Case, run: Run) -> str:
    if case.rate is None:
        times = f"bound {number(run.first)} s after its start, p50 {number(run.p50)} s,"
        times += f" p99 {number(run.p99)} s; {number(run.start)} s of a processor to start,"
        times += f" {number(run.cost)} ms for each pod"
    else:
        times = f"p50 {number(run.p50 * 1000)} ms, p99 {number(run.p99 * 1000)} ms"
        times += f"; {run.share * 100:.0f} % of a processor"
    return f"{number(run.rate)} pods/s; {times}; {run.rss:.0f} MiB, at most {run.peak:.0f}"


def _judged(case: Case, runs: Sequence[Run], *, others: Sequence[Run]) -> Figure:
    run, beside = typical(runs), typical(others)
    unit, scale = ("s", 1) if case.rate is None else ("ms", 1000)
    causes = []
    if run.rate < beside.rate * (1 - NOISE):
        rates, theirs = _span(each.rate for each in runs), _span(each.rate for each in others)
        causes.append(f"rate: {rates} pods/s in turns, {theirs} there")
    if run.p99 > beside.p99 * (1 + NOISE):
        times = _span(each.p99 * scale for each in runs)
        theirs = _span(each.p99 * scale for each in others)
        causes.append(f"p99: {times} {unit} in turns, {theirs} there")
        if case.rate is None and run.p99 - run.first + beside.first <= beside.p99:
            causes.append(f"it takes {number(run.first - beside.first)} s more to start")
    if run.peak > RSS_AIM:
        causes.append(f"RSS: {run.peak:.0f} MiB at most")
    return Figure(
        what=case.what,
        value=_value(case, run),
        aim=f"≥ {number(beside.rate)} pods/s, p99 ≤ {number(beside.p99 * scale)} {unit},"
        f" RSS ≤ {RSS_AIM:.0f} MiB",
        met=not causes,
        cause="; ".join(causes),
    )


def _span(values: Iterable[float]) -> str:
    ordered = sorted(values)
    return f"{number(ordered[0])} to {number(ordered[-1])}"
