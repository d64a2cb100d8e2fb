"""kubelet's back-off."""

import pytest

from slurmlet.supervisor.restart import FIRST_DELAY, BackOff, restarts


def test_the_first_restart_is_immediate_and_then_delays_double_up_to_five_minutes() -> None:
    back_off = BackOff()
    now, delays = 1000.0, []
    for _ in range(8):
        delays.append(back_off.next(now))
        now += delays[-1] + 1
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]


def test_image_pulls_wait_from_the_first_failure_on() -> None:
    back_off = BackOff(first=FIRST_DELAY)
    assert [back_off.next(1000.0), back_off.next(1011.0)] == [10, 20]


def test_ten_good_minutes_reset_it() -> None:
    back_off = BackOff()
    back_off.next(1000.0)
    assert back_off.next(1001.0) == 10
    assert back_off.next(1011.0 + 599) == 20
    assert back_off.next(1630.0 + 601) == 0


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 1, False),
    ],
)
def test_policies(policy: str, code: int, again: bool) -> None:
    assert restarts(policy, exit_code=code) is again
