"""The node object is kept there, and its pods are looked at again after an outage."""

import asyncio
import copy
import json
from typing import Any

import pytest
from tests.unit.kubelet.fakes import FakeApi, FakeSlurm

from slurmlet.kubelet import registration
from slurmlet.kubelet.config import Kubelet, virtual_nodes
from slurmlet.kubelet.registration import Registration
from slurmlet.kubelet.slurm.query import Slurm
from slurmlet.kubelet.survey import Survey

NODE = "/api/v1/nodes/slurm"
CONFIG = Kubelet(server="https://10.77.0.1:6443", address="10.77.0.1")


class NodeApi(FakeApi):
    """Keeps the node that is created, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self.created = asyncio.Event()

    async def create(self, path: str, body: Any) -> Any:
        self.created.set()
        self.log.append(("POST", path, body))
        self.objects[f"{path}/{body['metadata']['name']}"] = body
        return body


class Site:
    """A registration with what it is made of, and what it called."""

    def __init__(self) -> None:
        self.api, self.slurm = NodeApi(), FakeSlurm()
        self.calls: list[str] = []
        self.jobs: dict[str, int] = {}
        api: Any = self.api
        self.survey = Survey(slurm=Slurm(self.slurm.run), on_look=lambda: None)
        self.node = Registration(
            api=api,
            watching=api,
            survey=self.survey,
            node=virtual_nodes(CONFIG)[0],
            config=CONFIG,
            cluster="lab",
            release="0.1.0",
            jobs=lambda: dict(self.jobs),
            on_missing=lambda: self.calls.append("missing"),
            on_recovery=lambda: self.calls.append("recovery"),
        )

    async def look(self) -> None:
        await self.survey.look()
        await self.node.post()

    def live(self) -> Any:
        return self.api.objects[NODE]

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.api.log]


@pytest.fixture
def site() -> Site:
    return Site()


async def test_the_node_is_made_and_then_left_alone(site: Site) -> None:
    await site.look()
    assert site.calls == ["missing"]
    assert site.methods() == ["GET", "POST", "PATCH"]
    assert site.live()["status"]["capacity"]["cpu"] == "4"
    assert "24.11.5" in site.live()["status"]["nodeInfo"]["containerRuntimeVersion"]
    await site.look()
    assert site.methods()[3:] == ["GET"]


async def test_more_nodes_are_told_at_once(site: Site) -> None:
    await site.look()
    site.slurm.nodes += "c2|cpu*|8|16000|idle|10.77.0.12|c2|(null)|\n"
    await site.look()
    assert site.live()["status"]["capacity"]["cpu"] == "12"


@pytest.mark.claim("V1")
async def test_what_somebody_wrote_on_the_node_does_not_last(site: Site) -> None:
    await site.look()
    site.live()["metadata"]["annotations"]["slurmlet.io/largest"] = "{}"
    site.live()["status"]["capacity"]["cpu"] = "999"
    await site.node.post()
    assert json.loads(site.live()["metadata"]["annotations"]["slurmlet.io/largest"])["cpu"]
    assert site.live()["status"]["capacity"]["cpu"] == "4"


def conditions(live: Any) -> dict[str, str]:
    return {item["type"]: item["status"] for item in live["status"]["conditions"]}


async def test_before_slurm_answers_nothing_is_said_of_capacity(site: Site) -> None:
    await site.node.post()
    assert "status" not in site.live(), "Slurm was not asked yet"
    site.slurm.silent = True
    await site.look()
    status = site.live()["status"]
    assert not status.keys() & {"capacity", "allocatable"}
    assert "annotations" not in site.live()["metadata"]
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
    # Nothing that is bound there could be checked.
    assert conditions(site.live())["Ready"] == conditions(site.live())["SlurmReachable"] == "False"
    writes = len(site.methods())
    await site.look()
    assert site.methods()[writes:] == ["GET"]
    site.slurm.silent = False
    await site.look()
    assert site.live()["status"]["capacity"]["cpu"] == "4"
    assert conditions(site.live())["Ready"] == conditions(site.live())["SlurmReachable"] == "True"


@pytest.mark.claim("V42")
async def test_an_agent_that_starts_while_slurm_is_silent_says_so(site: Site) -> None:
    """A slurmctld that is away for hours, and a node that is called Unknown: what runs goes on."""
    await site.look()
    before = copy.deepcopy(site.live())
    for item in site.live()["status"]["conditions"]:
        item["status"] = "Unknown"
    again = Site()
    again.api.objects[NODE] = site.live()
    again.slurm.silent = True
    await again.look()
    told = conditions(again.live())
    assert (told["Ready"], told["SlurmReachable"]) == ("True", "False")
    assert again.live()["metadata"] == before["metadata"]
    for key in ("capacity", "allocatable", "nodeInfo"):
        assert again.live()["status"][key] == before["status"][key]


@pytest.mark.claim("V5")
async def test_a_silent_slurm_takes_no_capacity_away(site: Site) -> None:
    await site.look()
    site.slurm.silent = True
    await site.look()
    status = site.live()["status"]
    assert status["capacity"]["cpu"] == "4"
    reachable = next(item for item in status["conditions"] if item["type"] == "SlurmReachable")
    assert reachable["status"] == "False"


@pytest.mark.claim("V6")
async def test_jobs_are_counted_once_for_each_look(site: Site) -> None:
    """Each write of the node wakes whoever watches nodes."""
    await site.look()
    site.jobs = {"running": 2}
    await site.node.post()
    assert site.methods()[3:] == ["GET"]
    await site.look()
    told = site.live()["metadata"]["annotations"]["slurmlet.io/jobs"]
    assert json.loads(told) == {"running": 2}


async def test_a_cordon_is_seen_in_the_object_and_in_the_watch(site: Site) -> None:
    assert site.node.cordoned is None
    await site.look()
    assert site.node.cordoned is False
    cordoned = {**site.live(), "spec": {"unschedulable": True}}
    site.node.changed("slurm", site.live(), cordoned)
    assert site.node.cordoned
    assert "recovery" not in site.calls
    await site.node.post()
    assert site.node.cordoned is False
    assert site.calls[-1] == "recovery", "pods that wait are looked at"
    site.node.changed("slurm", cordoned, None)
    assert site.node.cordoned is None


@pytest.mark.claim("V8")
async def test_a_cordoned_node_that_is_deleted_lets_pods_go_on_at_once(site: Site) -> None:
    await site.look()
    site.live()["spec"] = {"unschedulable": True}
    await site.node.post()
    site.node.changed("slurm", site.live(), None)
    del site.api.objects[NODE]
    assert "recovery" not in site.calls
    await site.node.post()
    assert site.calls == ["missing", "missing", "recovery"]
    await site.node.post()
    assert site.calls[3:] == []


@pytest.mark.claim("V7")
async def test_the_watch_brings_a_deleted_node_back(site: Site) -> None:
    keeping = asyncio.create_task(site.node._keep())
    await site.api.created.wait()
    before = site.api.objects.pop(NODE)
    site.api.created.clear()
    site.node.changed("slurm", before, None)
    async with asyncio.timeout(registration.CHECK_SECONDS / 2):
        await site.api.created.wait()
    keeping.cancel()
    assert site.calls == ["missing", "missing"]
