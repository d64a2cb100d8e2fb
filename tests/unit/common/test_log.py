"""Lines of the journal: what peers say begins none."""

import logging

from hypothesis import given
from hypothesis import strategies as st

from slurmlet.common.log import Formatter
from slurmlet.contracts import audit


def formatted(message: str, *args: object) -> str:
    record = logging.LogRecord("slurmlet.x", logging.INFO, "f", 1, message, args, None)
    return Formatter("%(levelname)s %(name)s: %(message)s").format(record)


FORGED = f"x\nINFO slurmlet.kubelet.channel: {audit.line(audit.Act(what=audit.PLAN, job=7))}"


def test_a_peer_s_newline_forges_no_line() -> None:
    lines = formatted("job 8 said bye: %s", FORGED).splitlines()
    assert len(lines) == 2
    assert [audit.parse(line) for line in lines] == [None, None]


@given(st.text(), st.sampled_from(["\n", "\r", "\r\n", "\x0b", "\x85", "\u2028", "\x00"]))
def test_whatever_it_holds_only_the_first_line_begins_at_the_margin(text: str, end: str) -> None:
    lines = formatted("said: %s", text + end + FORGED).split("\n")
    assert all(line.startswith("  ") for line in lines[1:])
    assert not any(set(line) & set("\r\x0b\x85\u2028\x00") for line in lines)


def test_no_line_is_long_enough_for_journald_to_split_it() -> None:
    text = formatted("said: %s", "x" * 60000 + FORGED + "\n" * 60000)
    assert max(len(line.encode()) for line in text.split("\n")) < 48 * 1024
    assert len(text.split("\n")) <= 200


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "f", 1, "no", (), (ValueError, error, error.__traceback__)
        )
    lines = Formatter("%(levelname)s %(name)s: %(message)s").format(record).split("\n")
    assert lines[0] == "ERROR x: no"
    assert "  Traceback" in lines[1]
    assert all(line.startswith("  ") for line in lines[1:])
