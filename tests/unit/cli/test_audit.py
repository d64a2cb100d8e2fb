"""Who ran which pod: every double, and whatever ran without leave, is found."""

import json

import pytest

from slurmlet.cli import audit, witnesses
from slurmlet.cli.__main__ import main
from slurmlet.cli.audit import Row
from slurmlet.contracts.audit import BYE, CANCEL, PLAN, SUBMIT, Act, line

UID, OTHER = "0123abcd-1111-2222-3333-444455556666", "ffffabcd-1111-2222-3333-444455556666"


def act(what: str, job: int, *, uid: str = UID, user: str = "") -> Act:
    return Act(what=what, job=job, pod="alice/web", uid=uid, user=user, reason="x" * (what == BYE))


def row(job: int, state: str = "COMPLETED", *, uid: int = 2001, ran: bool = True) -> Row:
    return Row(job=job, uid=uid, user="alice" if uid else "root", state=state, ran=ran)


def said(acts: list[Act], *rows: Row, roots: tuple[int, ...] = ()) -> list[str]:
    found = audit.pods(acts, {each.job: each for each in rows})
    return audit.judge(found, roots=roots)


FIRST = [act(SUBMIT, 7), act(PLAN, 7, user="alice")]


@pytest.mark.parametrize(
    ("acts", "rows"),
    [
        ([], []),
        (FIRST, [row(7)]),
        (FIRST, [row(7, "RUNNING")]),
        ([*FIRST, act(PLAN, 7)], [row(7, "FAILED")]),
        ([act(PLAN, 7)], [row(7)]),
        ([*FIRST, act(SUBMIT, 8), act(BYE, 8)], [row(7), row(8, "FAILED")]),
        ([*FIRST, act(BYE, 8)], [row(7), row(8, "CANCELLED")]),
        ([*FIRST, act(SUBMIT, 8), Act(what=CANCEL, job=8)], [row(7), row(8, "CANCELLED")]),
        ([*FIRST, act(SUBMIT, 8)], [row(7), row(8, "CANCELLED", ran=False)]),
        ([*FIRST, act(SUBMIT, 8)], [row(7), row(8, "RUNNING")]),
        ([act(SUBMIT, 7), act(BYE, 7)], [row(7, "FAILED")]),
        ([act(SUBMIT, 7)], [row(7, "NODE_FAIL")]),
        ([act(SUBMIT, 7)], [row(7, "CANCELLED")]),
        ([act(SUBMIT, 7)], [row(7, "PENDING", ran=False)]),
        ([*FIRST, act(SUBMIT, 8, uid=OTHER), act(PLAN, 8, uid=OTHER)], [row(7), row(8)]),
        ([Act(what=CANCEL, job=9)], []),
    ],
)
def test_what_may_be_is_no_problem(acts: list[Act], rows: list[Row]) -> None:
    assert said(acts, *rows) == []


@pytest.mark.parametrize(
    ("acts", "rows", "words"),
    [
        ([*FIRST, act(PLAN, 8)], [row(7), row(8)], "2 jobs were given its plan: 7, 8"),
        ([*FIRST, act(PLAN, 8), act(BYE, 8)], [row(7), row(8)], "2 jobs were given its plan"),
        ([*FIRST, act(SUBMIT, 8)], [row(7), row(8)], "job 8 ran beside another"),
        ([*FIRST, act(SUBMIT, 8)], [row(7), row(8, "CANCELLED")], "neither sent away nor"),
        ([act(SUBMIT, 7)], [row(7)], "job 7 ended without a plan as COMPLETED"),
        (FIRST, [row(7, uid=0)], "job 7 ran as root"),
        ([act(PLAN, 7, user="bob")], [row(7)], "job 7 belongs to alice, not to bob"),
        (FIRST, [], "job 7 is unknown to the accounting"),
        ([*FIRST, act(PLAN, 7, uid=OTHER)], [row(7)], "job 7 had several pods"),
    ],
)
def test_what_must_not_be_is_said(acts: list[Act], rows: list[Row], words: str) -> None:
    assert words in "\n".join(said(acts, *rows))


def test_a_job_of_root_that_is_called_like_a_pod_s_is_said() -> None:
    assert said([], roots=(5,)) == ["job 5 of root is called like a pod's"]


def entry(message: object, at: float) -> str:
    return json.dumps({"MESSAGE": message, "__REALTIME_TIMESTAMP": str(int(at * 1e6))})


def test_the_journal_is_known_from_its_oldest_act_on() -> None:
    own = f"INFO slurmlet.kubelet.channel: {line(act(PLAN, 7))}"
    forged = f"INFO slurmlet.kubelet.channel: alice/web: said bye: {line(act(PLAN, 8))}"
    lines = [entry("hello", 10), entry([255], 11), "{", entry(own, 20), entry(forged, 30)]
    assert witnesses.read_journal("\n".join(lines), since=5) == (20, [act(PLAN, 7)])
    assert witnesses.read_journal("\n".join(lines), since=25)[0] == 25
    assert witnesses.read_journal("", since=5) == (5, [])


def test_rows_of_sacct() -> None:
    text = (
        "7|2001|alice|CANCELLED by 0|2026-01-01T00:00:00|c1\n"
        "8|0|root|PENDING|Unknown|None assigned\n9|x\n"
    )
    assert witnesses.read_rows(text) == {
        7: row(7, "CANCELLED"),
        8: row(8, "PENDING", uid=0, ran=False),
    }


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    acts = [*FIRST, act(SUBMIT, 8), act(BYE, 8)]
    answers = {"journalctl": "", "sacct": "7|2001|alice|COMPLETED|2026-01-01T00:00:00|c1\n"}

    def ask(*argv: str, seconds: float) -> str | None:
        assert seconds > 0
        return answers.get(argv[0])

    monkeypatch.setattr(witnesses, "ask", ask)
    monkeypatch.setattr(witnesses, "read_journal", lambda _, since: (since, acts))
    assert main(["audit"]) == 1
    shown = capsys.readouterr().out
    assert "alice/web  0123abcd-1111-2222-3333-444455556666  7    alice  COMPLETED" in shown
    assert "job 8 is unknown to the accounting" in shown
    answers["sacct"] += "8|2001|alice|FAILED|2026-01-01T00:00:00|c1\n"
    assert main(["audit", "--json", "--pod", "alice/other"]) == 0
    assert json.loads(capsys.readouterr().out)["pods"] == []
    assert main(["audit"]) == 0
    assert "sent away: x" in capsys.readouterr().out
    del answers["sacct"]
    assert main(["audit"]) == 2
    assert "slurmdbd" in capsys.readouterr().err


def test_further_units_are_asked_for_beside_the_usual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(*argv: str, seconds: float) -> str:
        asked.extend(argv)
        return ""

    monkeypatch.setattr(witnesses, "ask", ask)
    witnesses.acts(days=1, further=["other.service"])
    for unit in ("slurmlet-kubelet.service", "slurmlet-broker.service", "other.service"):
        assert f"_SYSTEMD_UNIT={unit}" in asked
    assert asked.count("+") == 2
