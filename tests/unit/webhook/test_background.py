import threading

import pytest

from slurmlet.webhook.background import repeat

SECONDS = 10


def test_the_first_time_is_at_once_and_the_others_follow() -> None:
    enough, stop, seen = threading.Event(), threading.Event(), []

    def look() -> None:
        seen.append(threading.current_thread() is threading.main_thread())
        if len(seen) == 3:
            enough.set()

    repeat(look, seconds=0.001, stop=stop)
    assert seen[0] is True
    assert enough.wait(SECONDS)
    stop.set()
    assert seen[1:3] == [False, False]


def test_an_exception_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    enough, stop, seen = threading.Event(), threading.Event(), []

    def look() -> None:
        seen.append(1)
        if len(seen) == 3:
            enough.set()
        raise ValueError("a bug")

    repeat(look, seconds=0.001, stop=stop)
    assert enough.wait(SECONDS)
    stop.set()
    assert "look failed and is tried again" in caplog.messages[0]
