from collections.abc import Callable

import pytest

from slurmlet.controlplane import run


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """Ports on loopback that nobody listens on."""
    return lambda count: run.free_ports("127.0.0.1", count)
