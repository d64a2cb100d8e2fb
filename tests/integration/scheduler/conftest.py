from collections.abc import AsyncIterator, Iterator

import pytest
from tests.integration.scheduler.process import Scheduler, delete_pods, register

from slurmlet.common.kube import Api
from slurmlet.controlplane.run import ControlPlane


@pytest.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[Api]:
    """Requests as the cluster's admin."""
    async with await Api.from_kubeconfig(str(control_plane.admin_conf)) as api:
        yield api


@pytest.fixture
async def virtual_node(admin: Api) -> AsyncIterator[None]:
    """The node, and no other pods than those of the test."""
    await delete_pods(admin)
    await register(admin)
    yield
    await delete_pods(admin)
    node = await admin.get("/api/v1/nodes/slurm")
    await admin.delete("/api/v1/nodes/slurm", uid=node["metadata"]["uid"])


@pytest.fixture
def schedulers() -> Iterator[list[Scheduler]]:
    """What a test starts and appends; all are ended."""
    started: list[Scheduler] = []
    yield started
    for one in started:
        if one.process and one.process.poll() is None:
            one.stop()
