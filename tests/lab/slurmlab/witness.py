"""What `slurmlet audit` says, held against what supervisors wrote of their starts. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

_START = re.compile(
    r"(?:.*/)?(?P<job>\d+)\.boot:.* INFO audit container (?P<name>\S+): start (?P<n>\d+)"
)


def starts(text: str) -> dict[int, int]:
    """Job → how many containers it started, from `grep -H` of the boot files."""
    found: dict[int, int] = defaultdict(int)
    for line in text.splitlines():
        if match := _START.fullmatch(line):
            found[int(match["job"])] += 1
    return dict(found)


def problems(report: Mapping[str, Any], started: Mapping[int, int]) -> list[str]:
    """The audit's own, and each job that started a container without a plan."""
    planned = {job["job"] for pod in report["pods"] for job in pod["jobs"] if job["planned"]}
    return [
        *report["problems"],
        *(
            f"job {job} started {count} containers and nobody gave it a plan"
            for job, count in sorted(started.items())
            if job not in planned
        ),
    ]


def summary(report: Mapping[str, Any], started: Mapping[int, int]) -> str:
    """How many pods and jobs there were, and how they ended."""
    jobs: list[Mapping[str, Any]] = [job for pod in report["pods"] for job in pod["jobs"]]
    kinds = {
        "with the plan": _count(job["planned"] for job in jobs),
        "sent away": _count(job["dismissed"] is not None for job in jobs),
        "that never started": _count(job["ran"] is False for job in jobs),
    }
    words = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return (
        f"{len(report['pods'])} pods, {len(jobs)} jobs: {words};"
        f" {sum(started.values())} starts of containers in {len(started)} jobs"
    )


def _count(items: Iterable[bool]) -> int:
    return sum(1 for item in items if item)
