"""Jobs that started containers without leave are found."""

from typing import Any

from slurmlab.witness import problems, starts, summary

BOOT = """\
/home/alice/.slurmlet/lab/boot/7.boot:2026-01-01 00:00:00,000 INFO audit container main: start 0
/home/alice/.slurmlet/lab/boot/7.boot:2026-01-01 00:00:09,000 INFO audit container main: start 1
/home/bob/.slurmlet/lab/boot/8.boot:2026-01-01 00:00:00,000 INFO audit container main: start 0
/home/bob/.slurmlet/lab/boot/x.boot: INFO audit container main: start 0
"""


def job(number: int, **changes: Any) -> dict[str, Any]:
    plain = {"job": number, "planned": True, "dismissed": None, "ran": True}
    return plain | changes


def report(*jobs: dict[str, Any], wrong: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"pods": [{"pod": "alice/web", "uid": "u", "jobs": list(jobs)}], "problems": wrong}


def test_starts_are_counted_by_job() -> None:
    assert starts(BOOT) == {7: 2, 8: 1}


def test_a_start_without_a_plan_is_a_problem() -> None:
    assert problems(report(job(7), job(8)), starts(BOOT)) == []
    dismissed = job(8, planned=False, dismissed="job 7 has the pod")
    said = ["job 8 started 1 containers and nobody gave it a plan"]
    assert problems(report(job(7), dismissed), starts(BOOT)) == said
    assert problems(report(job(7)), starts(BOOT)) == said
    assert problems(report(job(7), wrong=("two",)), {}) == ["two"]


def test_the_summary_counts() -> None:
    jobs = (job(7), job(8, planned=False, dismissed=""), job(9, planned=False, ran=False))
    assert summary(report(*jobs), {7: 2}) == (
        "1 pods, 3 jobs: 1 with the plan, 1 sent away, 1 that never started;"
        " 2 starts of containers in 1 jobs"
    )
