"""What was measured, beside what was aimed at."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A row of the table. `met` is None where there is no aim; `cause` is why it is missed."""

    what: str
    value: str
    aim: str = ""
    met: bool | None = None
    cause: str = ""

    @property
    def verdict(self) -> str:
        if self.met is None:
            return ""
        return "met" if self.met else f"**missed**: {self.cause or 'not known why'}"


def quantile(samples: Sequence[float], share: float) -> float:
    """The sample below which `share` (0 to 1) of all are, between neighbours in proportion."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(samples: Sequence[float]) -> float:
    return quantile(samples, 0.5)


def times(samples: Sequence[float]) -> str:
    """Milliseconds, as p50 and p99."""
    return f"p50 {number(median(samples))} ms, p99 {number(quantile(samples, 0.99))} ms"


def seconds(samples: Sequence[float]) -> str:
    """Milliseconds of samples in seconds, as p50 and p95."""
    return (
        f"p50 {number(median(samples) * 1000)} ms, p95 {number(quantile(samples, 0.95) * 1000)} ms"
    )


def number(value: float) -> str:
    """Three digits are more than a run can tell from another."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"


def table(figures: Sequence[Figure]) -> str:
    """A table in Markdown."""
    rows = [("what", "figure", "aim", "")]
    rows += [(each.what, each.value, each.aim, each.verdict) for each in figures]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---|---|---|---|")
    return "\n".join(lines)


def replace_section(page: str, *, name: str, text: str) -> str:
    """A page with another text between `<!-- NAME -->` and `<!-- /NAME -->`.

    Raises:
        ValueError: the page has no such section, or several.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"the page has not one section {begin.strip()}")
    before, _, rest = page.partition(begin)
    return f"{before}{begin}{text}{end}{rest.partition(end)[2]}"
