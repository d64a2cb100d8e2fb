"""One agent with a virtual node for each of two partitions, on a real API server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.kubelet.test_agent import bound_pod, until
from tests.unit.kubelet.fakes import FakeBroker, FakeJob, FakeSlurm

from slurmlet.common import tls
from slurmlet.common.kube import ApiError
from slurmlet.contracts.site import Cluster
from slurmlet.controlplane.run import free_ports
from slurmlet.kubelet import agent as agents
from slurmlet.kubelet import lease, submit
from slurmlet.kubelet.__main__ import _connect
from slurmlet.kubelet.agent import Agent
from slurmlet.kubelet.config import Kubelet, virtual_nodes
from slurmlet.kubelet.nodeservice import Connection
from slurmlet.kubelet.records import Entry, Journal

Kubectl = Callable[..., str]
NODES = """\
c1|cpu*|16|8000|idle|10.77.0.11|c1|(null)|
c2|cpu*|16|8000|idle|10.77.0.12|c2|(null)|
c2|debug|16|8000|idle|10.77.0.12|c2|(null)|
"""


class Site:
    """An agent that runs, and Slurm and broker behind it."""

    def __init__(self, config: Kubelet, connections: list[Connection]) -> None:
        self.config = config
        self.connections = connections
        self.agent: Agent
        self.slurm = FakeSlurm(nodes=NODES)
        self.broker = FakeBroker(self.slurm)

    def submitted(self) -> dict[str, str]:
        """Pod → partition that its job was asked for in."""
        return {item.pod: item.options["partition"] for item in self.broker.submitted()}


@pytest.fixture
def config(config: Kubelet, tmp_path: Path) -> Kubelet:
    identity = tmp_path / "identity.toml"
    identity.write_text('[namespaces.alice]\nuser = "root"\n')
    port, further, supervisor = free_ports("127.0.0.1", 3)
    return replace(
        config,
        nodes="per-partition",
        partitions=("cpu", "debug"),
        port=port,
        further_ports=further,
        supervisor_port=supervisor,
        identity_file=str(identity),
        policy_file=str(tmp_path / "policy.json"),
    )


@pytest.fixture
async def site(config: Kubelet, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        connections = [await _connect(stack, config, node) for node in virtual_nodes(config)]
        found = Site(config, connections)
        monkeypatch.setattr(agents, "Commands", lambda _: found.slurm)
        monkeypatch.setattr(agents, "Broker", lambda _: found.broker)
        journal = Journal(Path(config.state_dir) / "jobs")
        journal.write(Entry(uid="old", namespace="alice", name="old", job_id=7, node="slurm"))
        journal.write(Entry(uid="gone", namespace="alice", name="gone", job_id=8, node="slurm-cpu"))
        found.slurm.jobs = {number: FakeJob(state="RUNNING") for number in (7, 8)}
        agent = found.agent = Agent(
            connections, config=config, cluster=Cluster(name="lab"), key=b"k" * 32, release="0.1.0"
        )
        serving = tls.server_context(
            cert=config.serving_cert, key=config.serving_key, client_ca=config.ca
        )
        parts = agent.parts(api_context=serving, channel_context=serving)
        running = [asyncio.create_task(part) for part in parts]
        yield found
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        # TLS connections take some rounds of the loop to close (aiohttp, Graceful shutdown).
        await asyncio.sleep(0.25)


@pytest.fixture(autouse=True)
def clean(kubectl: Kubectl) -> Any:
    yield
    kubectl("admin", "-n", "alice", "delete", "pods", "--all", "--force", "--grace-period=0")
    kubectl("admin", "delete", "node", "--all")


async def node_of(kubectl: Kubectl, name: str) -> Any:
    """The node, once its agent has said what Slurm has."""
    deadline = time.monotonic() + 15
    while True:
        arguments = ("get", "node", name, "-o", "json", "--ignore-not-found")
        text = await asyncio.to_thread(kubectl, "admin", *arguments)
        if "slurmlet.io/largest" in text and "slurmlet.io/max-time" in text:
            return json.loads(text)
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


@pytest.mark.claim("V9")
async def test_one_agent_registers_a_node_for_each_partition(site: Site, kubectl: Kubectl) -> None:
    cpu, debug = await node_of(kubectl, "slurm-cpu"), await node_of(kubectl, "slurm-debug")
    assert cpu["status"]["allocatable"]["cpu"] == "32"
    assert debug["status"]["allocatable"]["cpu"] == "16"
    labels = cpu["metadata"]["labels"], debug["metadata"]["labels"]
    assert [item["slurmlet.io/partition"] for item in labels] == ["cpu", "debug"]
    assert [item.get("slurmlet.io/default-partition") for item in labels] == ["true", None]
    ports = [node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] for node in (cpu, debug)]
    assert ports == [site.config.port, site.config.further_ports]
    described = await asyncio.to_thread(kubectl, "admin", "describe", "node", "slurm-debug")
    assert 'slurmlet.io/overlaps: {"cpu": ["c2"]}' in described


@pytest.mark.claim("V10")
async def test_pods_of_each_node_become_jobs_of_its_partition(site: Site, kubectl: Kubectl) -> None:
    for name in ("cpu", "debug"):
        await node_of(kubectl, f"slurm-{name}")
        await asyncio.to_thread(bound_pod, kubectl, f"on-{name}", node=f"slurm-{name}")
    await until(lambda: len(site.submitted()) == 2, seconds=30)
    assert site.submitted() == {"on-cpu": "cpu", "on-debug": "debug"}
    for name in ("on-cpu", "on-debug"):
        arguments = ("-n", "alice", "get", "pod", name, "-o", "jsonpath={.metadata.annotations}")
        deadline = time.monotonic() + 15
        while "status.slurmlet.io/job-id" not in await asyncio.to_thread(
            kubectl, "alice", *arguments
        ):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        # Each by way of its own port.
        said = await asyncio.to_thread(kubectl, "alice", "-n", "alice", "logs", name, fails=True)
        assert f'container "main" in pod "{name}" is waiting to start' in said


@pytest.mark.claim("V8")
async def test_a_cordon_holds_back_pods_of_that_node_alone(site: Site, kubectl: Kubectl) -> None:
    for name in ("cpu", "debug"):
        await node_of(kubectl, f"slurm-{name}")
    await asyncio.to_thread(kubectl, "admin", "cordon", "slurm-debug")
    for name in ("debug", "cpu"):
        await asyncio.to_thread(bound_pod, kubectl, f"on-{name}", node=f"slurm-{name}")
    await until(lambda: "on-cpu" in site.submitted(), seconds=30)
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    arguments = ("-n", "alice", "get", "pod", "on-debug", "-o", reason)
    deadline = time.monotonic() + 15
    while await asyncio.to_thread(kubectl, "alice", *arguments) != submit.CORDONED:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert "on-debug" not in site.submitted()
    await asyncio.to_thread(kubectl, "admin", "uncordon", "slurm-debug")
    await until(lambda: "on-debug" in site.submitted(), seconds=5)


@pytest.mark.claim("V7")
async def test_a_deleted_node_comes_back_and_its_pods_jobs_are_left_alone(
    site: Site, kubectl: Kubectl
) -> None:
    before = await node_of(kubectl, "slurm-debug")
    await asyncio.to_thread(bound_pod, kubectl, "kept", node="slurm-debug")
    await until(lambda: "kept" in site.submitted(), seconds=30)
    started = time.monotonic()
    await asyncio.to_thread(kubectl, "admin", "delete", "node", "slurm-debug", "--wait=false")
    again = before
    while again["metadata"]["uid"] == before["metadata"]["uid"]:
        again = await node_of(kubectl, "slurm-debug")
    assert time.monotonic() - started < 10
    assert site.broker.cancelled() == []


@pytest.mark.claim("V9")
async def test_the_node_of_a_partition_that_is_removed_takes_no_pods(
    site: Site, kubectl: Kubectl
) -> None:
    await node_of(kubectl, "slurm-cpu")
    both, debug = NODES, "".join(line for line in NODES.splitlines(True) if "|debug|" in line)
    for nodes, ready, default in ((debug, "False", None), (both, "True", "true")):
        site.slurm.nodes = nodes
        await site.agent._survey.look()
        site.agent._looked()
        deadline = time.monotonic() + 15
        while True:
            arguments = ("get", "node", "slurm-cpu", "-o", "json")
            found = json.loads(await asyncio.to_thread(kubectl, "admin", *arguments))
            told = {item["type"]: item for item in found["status"]["conditions"]}["Ready"]
            label = found["metadata"]["labels"].get("slurmlet.io/default-partition")
            if (told["status"], label) == (ready, default):
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert ("Slurm has no partition 'cpu'" in told["message"]) == (ready == "False")


@pytest.mark.claim("V9")
async def test_jobs_of_a_node_that_is_not_served_are_left_alone(
    config: Kubelet, site: Site, kubectl: Kubectl, caplog: pytest.LogCaptureFixture
) -> None:
    """As after the setting was changed: their pods are there, where this agent does not look."""
    await until(lambda: "job 7 is left alone" in caplog.text)
    assert "node slurm, which this agent does not serve" in caplog.text
    assert list(site.agent._orphans.found) == ["gone"]


@pytest.mark.claim("V9")
async def test_a_node_has_no_power_over_another(site: Site, kubectl: Kubectl) -> None:
    """NodeRestriction: each certificate is that of its own node."""
    await node_of(kubectl, "slurm-debug")
    cpu = site.connections[0].api
    with pytest.raises(ApiError) as caught:
        await cpu.patch("/api/v1/nodes/slurm-debug", {"metadata": {"labels": {"a": "b"}}})
    assert caught.value.status == 403


@pytest.mark.claim("V9")
def test_the_lease_of_each_node_is_renewed(config: Kubelet, kubectl: Kubectl) -> None:
    for node in virtual_nodes(config):
        lease.renew(config, node)
        arguments = ("-n", "kube-node-lease", "get", "lease", node.name, "-o", "json")
        held = json.loads(kubectl("admin", *arguments))["spec"]
        assert held["holderIdentity"] == node.name
