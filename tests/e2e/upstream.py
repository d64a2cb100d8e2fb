"""Specs of Kubernetes' own e2e.test: which are run, how they ended, what is wrong with that."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

LIST = Path(__file__).with_name("upstream.toml")
_SPEC = "[It] "
"""How ginkgo marks specs among the steps of its suites."""
_NOT_CHOSEN = "skipped"
"""What it says of a spec that was not chosen; one that skips itself says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What upstream.toml says. `slow` are names, as the keys of `exceptions` are; `focus` is a
    regular expression."""

    focus: str
    slow: tuple[str, ...]
    exceptions: Mapping[str, str]

    def flags(self, *, slow: bool) -> list[str]:
        """ginkgo's flags that choose the specs, the slow ones with `slow`."""
        return [
            f"--focus={self.focus}",
            *(f"--skip={literal(each)}" for each in self.slow if not slow),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """How a spec ended; `outcome` is passed, failed or skipped (it skipped itself)."""

    name: str
    outcome: str
    seconds: float
    message: str


def read_choice(text: str) -> Choice:
    table = tomllib.loads(text)
    return Choice(
        focus=table["focus"], slow=tuple(table["slow"]), exceptions=dict(table["exceptions"])
    )


def literal(text: str) -> str:
    """A regular expression of Go that matches just this text; Go refuses an escaped space."""
    return re.sub(r"([][(){}.*+?^$|\\])", r"\\\1", text)


def parse(junit: str) -> list[Spec]:
    """The specs of a JUnit report that were chosen."""
    found = []
    for case in ElementTree.fromstring(junit).iter("testcase"):
        name, outcome = case.get("name", ""), case.get("status", "")
        told = case.find("failure") if case.find("failure") is not None else case.find("skipped")
        message = "" if told is None else (told.get("message") or told.text or "")
        if not name.startswith(_SPEC) or (outcome == "skipped" and message == _NOT_CHOSEN):
            continue
        # Some outcomes of ginkgo are kinds of failure: panicked, timedout, interrupted.
        if outcome not in ("passed", "skipped"):
            outcome = "failed"
        found.append(
            Spec(
                # ginkgo appends the labels of a spec, which its text has anyway.
                name=name.removeprefix(_SPEC).rpartition(" [")[0],
                outcome=outcome,
                seconds=float(case.get("time", "0")),
                message=message.strip().split("\n")[0],
            )
        )
    return sorted(found, key=lambda spec: spec.name)


def problems(specs: Sequence[Spec], choice: Choice, *, slow: bool) -> Iterator[str]:
    """A sentence for each spec that is at odds with the list, so that the list stays true."""
    ran = {spec.name for spec in specs}
    for spec in specs:
        listed = spec.name in choice.exceptions
        if spec.outcome == "failed" and not listed:
            yield f"fails: {spec.name}: {spec.message}"
        if spec.outcome == "skipped" and not listed:
            yield f"skips itself: {spec.name}: {spec.message}"
        if spec.outcome == "passed" and listed:
            yield f"passes, take it off the list: {spec.name}"
    for name in sorted({*choice.slow, *choice.exceptions} - ran):
        if slow or name not in choice.slow:
            yield f"is on the list and was not run: {name}"


def summary(specs: Sequence[Spec], choice: Choice) -> Iterator[str]:
    """Lines that say how each spec ended, and how many did how."""
    for spec in specs:
        yield f"{spec.outcome:8} {spec.seconds:6.1f} s  {spec.name}"
        if spec.outcome != "passed":
            yield f"{'':19}{choice.exceptions.get(spec.name) or spec.message}"
    counts = (
        f"{sum(spec.outcome == outcome for spec in specs)} {outcome}"
        for outcome in ("passed", "failed", "skipped")
    )
    yield f"{len(specs)} specs: {', '.join(counts)}"
