"""Two schedulers on an API server that keeps an audit log, and which of them is killed."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.integration.scheduler.process import (
    LEASE,
    PODS,
    Scheduler,
    delete_pods,
    node_of,
    pod,
    register,
    rounds,
    scheduled_events,
)

from slurmlet.common.kube import Api, ApiError, UnreachableError
from slurmlet.controlplane.certificates import Request
from slurmlet.controlplane.run import ControlPlane, local_config

COUNT = rounds("PODS", 450)
ROUNDS = rounds("ROUNDS", 3)
KILL_SECONDS = rounds("KILL_SECONDS", 9)
"""Between kills: more than the lease of 6 s."""
UNBOUND_SECONDS = 20
MAKERS = 8
BOUND_SECONDS = 60

AUDIT = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create]
  resources: [{group: "", resources: [pods/binding]}]
- level: None
"""


@pytest.fixture(scope="module")
def plane(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of these tests' own, which logs Binding requests."""
    directory = tmp_path_factory.mktemp("audited")
    policy = directory / "audit.yaml"
    policy.write_text(AUDIT)
    config = local_config(directory, bin_dir=binaries, ports=(0, 0, 0, 0), fsync=False)
    request = Request(sans=("127.0.0.1",), nodes=("slurm",))
    with ControlPlane(replace(config, audit_policy=str(policy)), request) as started:
        yield started


@pytest.fixture
async def api(plane: ControlPlane) -> AsyncIterator[Api]:
    """Requests as admin; there is the node, and no pod before and after."""
    async with await Api.from_kubeconfig(str(plane.admin_conf)) as found:
        with suppress(ApiError):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "alice"}}
            await found.create("/api/v1/namespaces", body)
            await register(found)
        yield found
        await delete_pods(found)


@pytest.fixture
def pair(
    plane: ControlPlane, tmp_path: Path, schedulers: list[Scheduler]
) -> tuple[Scheduler, Scheduler]:
    """Two running schedulers."""
    first, second = (Scheduler(tmp_path / name, plane, qps=500) for name in ("one", "two"))
    for one in (first, second):
        one.start()
        schedulers.append(one)
    return first, second


def binding_requests(plane: ControlPlane, names: Collection[str]) -> int:
    """How many there were for these pods, as the audit log has it."""
    lines = plane.log("kube-apiserver").read_text(errors="replace").splitlines()
    events = (json.loads(line) for line in lines if line.startswith('{"kind":"Event"'))
    asked = (event["objectRef"] for event in events if event["apiVersion"] == "audit.k8s.io/v1")
    return sum(one["name"] in names for one in asked if one["subresource"] == "binding")


async def told(api: Api) -> Mapping[str, int]:
    """UID of each pod that is there → its Scheduled events."""
    events = Counter(await scheduled_events(api))
    return {
        uid: events[uid] for uid in (item["metadata"]["uid"] for item in (await api.list(PODS))[0])
    }


@dataclass
class Seen:
    """When pods were made and bound, by time.monotonic()."""

    made: dict[str, float] = field(default_factory=dict)
    bound: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def watch(self, api: Api) -> None:
        async for event in api.watch(PODS, {"resourceVersion": "0", "timeoutSeconds": "3600"}):
            name = event["object"]["metadata"].get("name")
            if event["type"] != "BOOKMARK" and node_of(event["object"]):
                async with self.changed:
                    self.bound.setdefault(name, time.monotonic())
                    self.changed.notify_all()

    async def make(self, api: Api, names: list[str]) -> None:
        async def some(mine: list[str]) -> None:
            for name in mine:
                await api.create(PODS, pod(name))
                self.made[name] = time.monotonic()

        await asyncio.gather(*(some(names[start::MAKERS]) for start in range(MAKERS)))

    async def until_bound(self, names: list[str], *, share: float = 1) -> None:
        wanted = len(names) * share
        async with asyncio.timeout(BOUND_SECONDS), self.changed:
            await self.changed.wait_for(lambda: len(self.bound.keys() & set(names)) >= wanted)


@asynccontextmanager
async def seeing(api: Api) -> AsyncIterator[Seen]:
    seen = Seen()
    task = asyncio.create_task(seen.watch(api))
    yield seen
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def leader_of(api: Api, pair: tuple[Scheduler, ...]) -> Scheduler:
    """The one that holds the lease."""
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            with suppress(ApiError):
                holder = (await api.get(LEASE))["spec"]["holderIdentity"]
                for one in pair:
                    if holder and one.alive and one.says(f": {holder} leads"):
                        return one
            await asyncio.sleep(0.05)


@pytest.mark.claim("K51")
@pytest.mark.claim("K40")
async def test_the_leader_killed_again_and_again(
    plane: ControlPlane, api: Api, pair: tuple[Scheduler, Scheduler]
) -> None:
    kills: list[float] = []
    batch = COUNT // ROUNDS
    async with seeing(api) as seen:
        for number in range(ROUNDS):
            leader = await leader_of(api, pair)
            names = [f"pod-{number}-{index}" for index in range(batch)]
            making = asyncio.create_task(seen.make(api, names))
            # In the middle of its work, so that there are bindings that it does not tell.
            await seen.until_bound(names, share=0.3)
            leader.kill()
            kills.append(time.monotonic())
            leader.start()
            await making
            await asyncio.sleep(max(0.0, kills[-1] + KILL_SECONDS - time.monotonic()))
        await seen.until_bound(list(seen.made))
    for one in pair:
        assert one.stop() == 0, one.log.read_text()

    for name, bound in seen.bound.items():
        since = max([seen.made[name], *(kill for kill in kills if kill < bound)])
        assert bound - since < UNBOUND_SECONDS, name
        for kill in kills:
            if seen.made[name] <= kill < bound:
                assert bound - kill < UNBOUND_SECONDS, name
    events = await told(api)
    assert len(events) == batch * ROUNDS
    assert set(events.values()) == {1}
    requests = binding_requests(plane, seen.made)
    worst = max(seen.bound[name] - seen.made[name] for name in seen.bound)
    print(
        f"{len(events)} pods, {len(kills)} kills, {requests} Binding requests, worst {worst:.1f} s"
    )
    assert len(events) <= requests <= 1.05 * len(events)


@pytest.mark.claim("K52")
async def test_who_is_stopped_hands_over_at_once(
    api: Api, pair: tuple[Scheduler, Scheduler]
) -> None:
    leader = await leader_of(api, pair)
    other = pair[1] if leader is pair[0] else pair[0]
    async with asyncio.timeout(BOUND_SECONDS):
        while not other.says("leads, we stand by"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    async with seeing(api) as seen:
        assert leader.stop() == 0, leader.log.read_text()
        stopped = time.monotonic()
        await seen.make(api, ["after"])
        await seen.until_bound(["after"])
    # One retry of 1 s and what a busy machine takes; its lease would have lasted for 6.
    assert seen.bound["after"] - stopped < 4


async def test_a_leader_that_was_frozen_binds_nothing_when_it_wakes(
    plane: ControlPlane, api: Api, pair: tuple[Scheduler, Scheduler]
) -> None:
    leader = await leader_of(api, pair)
    assert leader.process
    async with seeing(api) as seen:
        leader.process.send_signal(signal.SIGSTOP)
        try:
            names = [f"frozen-{index}" for index in range(40)]
            await seen.make(api, names)
            await seen.until_bound(names)
        finally:
            leader.process.send_signal(signal.SIGCONT)
        status = await asyncio.to_thread(leader.process.wait, BOUND_SECONDS)
    assert status == 1
    assert "slurmlet-scheduler: lease kube-system/slurmlet-scheduler" in leader.log.read_text()
    assert binding_requests(plane, names) == len(names)
    assert list((await told(api)).values()) == [1] * len(names)


@pytest.mark.claim("K54")
async def test_the_api_server_killed_under_it(
    plane: ControlPlane, api: Api, pair: tuple[Scheduler, Scheduler]
) -> None:
    await leader_of(api, pair)
    names = [f"pod-{index}" for index in range(100)]
    for number, name in enumerate(names):
        if number == 60:
            os.kill(plane.pids["kube-apiserver"], signal.SIGKILL)
        async with asyncio.timeout(BOUND_SECONDS):
            while True:
                try:
                    await api.create(PODS, pod(name))
                except (ApiError, UnreachableError) as error:
                    if isinstance(error, ApiError) and error.status == 409:
                        break  # it was made, the answer was lost
                    await asyncio.sleep(0.2)
                else:
                    break
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            with suppress(ApiError, UnreachableError):
                events = await told(api)
                if len(events) == len(names) and all(events.values()):
                    break
            await asyncio.sleep(0.2)
    assert set(events.values()) == {1}
    items, _ = await api.list(PODS)
    assert all(map(node_of, items))
    assert "Unschedulable" not in json.dumps([item["status"] for item in items])
