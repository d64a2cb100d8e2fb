import pytest

from slurmlet.scheduler.health import not_alive, not_ready


@pytest.mark.claim("K55")
@pytest.mark.parametrize(
    ("pods", "nodes", "said"),
    [
        (None, None, ""),
        (940.1, None, ""),
        (939.0, None, "neither list nor watch of pods has worked for 61 s"),
        (
            900.0,
            930.0,
            (
                "neither list nor watch of nodes has worked for 70 s;"
                " neither list nor watch of pods has worked for 100 s"
            ),
        ),
    ],
)
def test_it_is_alive_until_nothing_has_worked_for_a_minute(
    pods: float | None, nodes: float | None, said: str
) -> None:
    lost = {"pods": pods, "nodes": nodes}
    assert not_alive(lost, beat=1000.0, now=1000.0) == said
    assert not_ready(lost, synced={"pods": True, "nodes": True}, beat=1000.0, now=1000.0) == said


def test_it_is_ready_when_it_knows_all() -> None:
    lost = {"pods": 999.0, "nodes": 999.0}
    synced = {"pods": False, "nodes": False}
    assert (
        not_ready(lost, synced=synced, beat=1000.0, now=1000.0) == "no list of nodes and pods yet"
    )
    synced["nodes"] = True
    assert not_ready(lost, synced=synced, beat=1000.0, now=1000.0) == "no list of pods yet"


@pytest.mark.claim("K55")
def test_it_is_not_alive_while_its_event_loop_is_stuck() -> None:
    lost = {"pods": None}
    said = "the event loop has been stuck for 61 s"
    assert not_alive(lost, beat=939.0, now=1000.0) == said
    assert not_ready(lost, synced={"pods": True}, beat=939.0, now=1000.0) == said
