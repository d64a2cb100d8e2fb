"""What is logged of jobs reads back, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts import audit
from slurmlet.contracts.audit import Act

PREFIXES = ("INFO ", "INFO slurmlet.kubelet.channel: ")


@given(
    st.sampled_from([audit.SUBMIT, audit.PLAN, audit.BYE, audit.CANCEL]),
    st.integers(1, 2**32),
    st.text(max_size=audit._REASON),
)
def test_an_act_reads_back_from_one_line(what: str, job: int, reason: str) -> None:
    act = Act(what=what, job=job, pod="alice/web", uid="u", user="alice", reason=reason)
    text = audit.line(act)
    assert len(text.splitlines()) == 1
    assert text.isascii()
    assert [audit.parse(prefix + text) for prefix in PREFIXES] == [act, act]


def test_a_long_reason_is_cut() -> None:
    act = audit.parse(PREFIXES[0] + audit.line(Act(what=audit.BYE, job=1, reason="x" * 10**6)))
    assert act is not None
    assert len(act.reason) == audit._REASON


@pytest.mark.parametrize(
    "text",
    [
        "",
        'audit {"what": "plan", "job": 7}',
        '  INFO audit {"what": "plan", "job": 7}',
        'WARNING audit {"what": "plan", "job": 7}',
        'INFO slurmlet.kubelet.session: said bye: INFO audit {"what": "plan", "job": 7}',
        'INFO audit {"what": "plan", "job": "7"}',
        'INFO audit {"what": "plan"',
        'INFO audit {"what": "plan", "job": 7} ',
    ],
)
def test_other_lines_are_none(text: str) -> None:
    assert audit.parse(text) is None
