"""Many pods that vanish at once are not believed."""

from slurmlet.kubelet.holding import HOLD_SECONDS, Holding


def test_a_few_vanished_pods_are_believed() -> None:
    holding = Holding()
    for _ in range(20):
        holding.vanished(0.0, pods=100)
    assert holding.seconds_left(1.0) == 0


def test_many_at_once_are_held() -> None:
    holding = Holding()
    begins = [holding.vanished(5.0, pods=100) for _ in range(25)]
    # It is told once.
    assert begins == [False] * 20 + [True] + [False] * 4
    assert holding.seconds_left(5.0) == HOLD_SECONDS
    assert holding.seconds_left(5.0 + HOLD_SECONDS) == 0


def test_a_large_node_loses_a_tenth() -> None:
    holding = Holding()
    for _ in range(100):
        holding.vanished(0.0, pods=1000)
    assert holding.seconds_left(0.0) == 0
    holding.vanished(0.0, pods=1000)
    assert holding.seconds_left(0.0) > 0


def test_slow_losses_are_believed() -> None:
    holding = Holding()
    for number in range(100):
        holding.vanished(number * 10.0, pods=100)
    assert holding.seconds_left(1000.0) == 0


def test_a_node_that_was_away_holds_everything() -> None:
    holding = Holding()
    holding.node_was_away(0.0, jobs=1)
    assert holding.seconds_left(10.0) == HOLD_SECONDS - 10


def test_a_new_cluster_holds_nothing() -> None:
    """A pod deleted by force right after the first roll-out kept its job for ten minutes."""
    holding = Holding()
    holding.node_was_away(0.0, jobs=0)
    assert holding.seconds_left(1.0) == 0
