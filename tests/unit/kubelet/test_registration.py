"""The node object is kept there, and its pods are looked at again after an outage."""

from typing import Any

from tests.unit.kubelet.fakes import FakeApi, FakeSlurm

from slurmlet.kubelet.config import Kubelet
from slurmlet.kubelet.node import Software
from slurmlet.kubelet.registration import Registration
from slurmlet.kubelet.slurm.query import Slurm

NODE = "/api/v1/nodes/slurm"


class NodeApi(FakeApi):
    """Keeps the node that is created."""

    async def create(self, path: str, body: Any) -> Any:
        self.log.append(("POST", path, body))
        self.objects[f"{path}/{body['metadata']['name']}"] = body
        return body


def registration(api: NodeApi, slurm: FakeSlurm) -> tuple[Registration, list[str]]:
    calls: list[str] = []
    found: Any = api
    return (
        Registration(
            api=found,
            slurm=Slurm(slurm.run),
            config=Kubelet(server="https://10.77.0.1:6443", address="10.77.0.1"),
            cluster="lab",
            software=Software(agent="0.1.0"),
            on_missing=lambda: calls.append("missing"),
            on_recovery=lambda: calls.append("recovery"),
        ),
        calls,
    )


async def test_the_node_is_made_and_then_left_alone() -> None:
    api = NodeApi()
    node, calls = registration(api, FakeSlurm())
    await node.look()
    await node.post()
    assert calls == ["missing"]
    assert [method for method, _, _ in api.log] == ["GET", "POST", "PATCH"]
    assert api.objects[NODE]["status"]["capacity"]["cpu"] == "4"
    assert "24.11.5" in api.objects[NODE]["status"]["nodeInfo"]["containerRuntimeVersion"]
    await node.look()
    await node.post()
    assert [method for method, _, _ in api.log][3:] == ["GET"]


async def test_more_nodes_are_told_at_once() -> None:
    api, slurm = NodeApi(), FakeSlurm()
    node, _ = registration(api, slurm)
    await node.look()
    await node.post()
    slurm.nodes += "c2|cpu|8|16000|idle|10.77.0.12|c2|(null)\n"
    node._looked = -1000.0
    await node.look()
    await node.post()
    assert api.objects[NODE]["status"]["capacity"]["cpu"] == "12"


async def test_before_slurm_answers_nothing_is_said_of_capacity() -> None:
    api, slurm = NodeApi(), FakeSlurm(silent=True)
    node, _ = registration(api, slurm)
    await node.look()
    await node.post()
    assert "status" not in api.objects[NODE]
    slurm.silent = False
    await node.look()
    await node.post()
    assert api.objects[NODE]["status"]["capacity"]["cpu"] == "4"


async def test_a_silent_slurm_takes_no_capacity_away() -> None:
    api, slurm = NodeApi(), FakeSlurm()
    node, _ = registration(api, slurm)
    await node.look()
    await node.post()
    slurm.silent = True
    node._looked = -1000.0
    await node.look()
    await node.post()
    status = api.objects[NODE]["status"]
    assert status["capacity"]["cpu"] == "4"
    reachable = next(item for item in status["conditions"] if item["type"] == "SlurmReachable")
    assert reachable["status"] == "False"
