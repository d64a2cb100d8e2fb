"""The pod's phase and the supervisor's verdict."""

import pytest

from slurmlet.contracts.podproto import ContainerState
from slurmlet.supervisor.status import CREATING, Record, phase, verdict

RUNNING = ContainerState(kind="running")


def ended(code: int) -> ContainerState:
    return ContainerState(kind="terminated", exit_code=code)


def records(*states: ContainerState | tuple[ContainerState, ContainerState]) -> list[Record]:
    result = []
    for number, state in enumerate(states):
        now, last = state if isinstance(state, tuple) else (state, None)
        result.append(Record(name=f"c{number}", state=now, last=last))
    return result


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([CREATING], "Pending"),
        ([RUNNING, CREATING], "Pending"),
        ([ended(1), CREATING], "Pending"),
        ([RUNNING, ended(1)], "Running"),
        ([(CREATING, ended(1))], "Running"),
        # Sidecars may still run, and the end is not stored yet.
        ([ended(0)], "Running"),
        ([ended(1)], "Running"),
    ],
)
def test_phase_before_the_end(states: list[ContainerState], expected: str) -> None:
    assert phase(records(*states), final=False) == expected


@pytest.mark.parametrize(
    ("states", "expected", "code"),
    [
        ([ended(0), ended(0)], "Succeeded", 0),
        ([ended(0), ended(3), ended(4)], "Failed", 3),
        ([ended(0), CREATING], "Failed", 1),
        ([CREATING], "Failed", 1),
    ],
)
def test_the_end_is_a_verdict(states: list[ContainerState], expected: str, code: int) -> None:
    got = records(*states)
    assert phase(got, final=True) == expected
    assert verdict(got, phase=expected) == code


def test_a_failed_init_container_fails_the_pod() -> None:
    init = Record(name="init", init=True, state=ended(5))
    main = Record(name="main", state=CREATING)
    assert phase([init, main], final=False) == "Pending"
    assert phase([init, main], final=True) == "Failed"
    assert verdict([init, main], phase="Failed") == 5


def test_a_sidecar_that_was_stopped_does_not_fail_the_pod() -> None:
    sidecar = Record(name="side", init=True, sidecar=True, state=ended(143))
    main = Record(name="main", state=ended(0))
    assert phase([sidecar, main], final=True) == "Succeeded"
    assert verdict([sidecar, main], phase="Succeeded") == 0


def test_readiness_of_init_containers_and_others() -> None:
    assert Record(name="a", init=True, state=ended(0)).report().ready
    assert not Record(name="a", init=True, state=RUNNING).report().ready
    assert Record(name="a", init=True, sidecar=True, state=RUNNING).report().ready
    assert Record(name="a", state=RUNNING).report().ready
    assert not Record(name="a", state=ended(0)).report().ready
