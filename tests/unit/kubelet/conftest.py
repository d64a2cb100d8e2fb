"""An agent's working parts over fakes of Slurm, the API server and the broker."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tests.unit.kubelet.fakes import FakeApi, FakeBroker, FakeSlurm, pod

from slurmlet.common.kube import Object
from slurmlet.contracts.podproto import FromAgent, Update
from slurmlet.kubelet import submit
from slurmlet.kubelet.config import Kubelet, VirtualNode
from slurmlet.kubelet.controller import Controller
from slurmlet.kubelet.holding import Holding
from slurmlet.kubelet.identities import Identities
from slurmlet.kubelet.jobwatch import JobWatch
from slurmlet.kubelet.orphans import Orphans, exists
from slurmlet.kubelet.records import Entry, Journal, Record, Records
from slurmlet.kubelet.servicewatch import Updates
from slurmlet.kubelet.slurm.capacity import Inventory
from slurmlet.kubelet.slurm.query import Slurm
from slurmlet.kubelet.submit import Submitter

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("slurmlet", deadline=None)
settings.load_profile("slurmlet")

KEY = b"k" * 32
UIDS = {"alice": 1001, "bob": 1002}


@dataclass
class FakeEvents:
    """Remembers what was emitted."""

    emitted: list[tuple[str, str, str]] = field(default_factory=list)

    def emit(
        self,
        item: Any,
        reason: str,
        message: str,
        *,
        kind: str = "Normal",
        container: str | None = None,
    ) -> None:
        self.emitted.append((item["metadata"]["name"], reason, message))

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.emitted]


@dataclass
class FakeSession:
    """A supervisor that takes everything."""

    sent: list[FromAgent] = field(default_factory=list)
    token: str = "0" * 64
    peer: str = "10.77.0.11"
    told: Update | None = None

    async def send(self, message: FromAgent) -> None:
        self.sent.append(message)


@dataclass
class FakeServices:
    """What a watch of the Services says."""

    items: list[Object] = field(default_factory=list)
    api: Object | None = None
    known: bool = True

    def of(self, namespace: str) -> list[Object]:
        return [item for item in self.items if item["metadata"]["namespace"] == namespace]

    def api_service(self) -> Object | None:
        return self.api


class World:
    """Pods live in `api`; `store` is what the agent's reflector would hold."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.identity = directory / "identity.toml"
        self.identity.write_text('[namespaces.alice]\nuser = "alice"\n')
        self.slurm = FakeSlurm()
        self.api = FakeApi()
        self.broker = FakeBroker(self.slurm)
        self.events = FakeEvents()
        self.touched: list[str] = []
        self.orphaned: list[Entry] = []
        self.lost: list[float] = []
        self.services = FakeServices()
        self.cordoned: bool | None = False
        self.inventory = Inventory()
        self.node = VirtualNode(name="slurm", port=10250, client_cert="", client_key="")
        self.restart()

    def restart(self) -> None:
        """A new agent that knows only what is written down."""
        fakes: Any = (self.api, self.broker, self.events)
        api, broker, events = fakes
        watch: Any = self.services
        config = Kubelet(
            server="https://10.77.0.1:6443",
            address="10.77.0.1",
            identity_file=str(self.identity),
        )
        slurm = Slurm(self.slurm.run)
        self.store: dict[str, Object] = {}
        self.records = Records()
        self.journal = Journal(self.directory / "jobs")
        self.watch = JobWatch(slurm, interval=10)
        self.holding = Holding()
        self.submitter = Submitter(
            api=api,
            broker=broker,
            slurm=slurm,
            watch=self.watch,
            events=events,
            records=self.records,
            journal=self.journal,
            identities=Identities(config.identity_file),
            config=config,
            node=self.node,
            cluster="lab",
            key=KEY,
            touch=lambda record: self.touched.append(record.key),
            orphaned=self.orphaned.append,
            inventory=lambda: self.inventory,
            cordoned=lambda: self.cordoned,
        )
        self.controller = Controller(
            api=api,
            store=self.store,
            records=self.records,
            journal=self.journal,
            watch=self.watch,
            slurm=slurm,
            broker=broker,
            events=events,
            submitter=self.submitter,
            updates=Updates(watch=watch, events=events, server=config.server),
        )
        self.orphans = Orphans(
            exists=lambda entry: exists(entry, api, node="slurm"),
            records=self.records,
            journal=self.journal,
            watch=self.watch,
            submitter=self.submitter,
            holding=self.holding,
            lost=lambda: self.lost.append(time.monotonic()),
        )

    def add(self, item: Object) -> str:
        self.api.add(item)
        return f"{item['metadata']['namespace']}/{item['metadata']['name']}"

    async def sync(self, key: str = "alice/web", *, times: int = 1) -> float | None:
        """What the work queue does, after the reflector and one look at Slurm."""
        pause = None
        for _ in range(times):
            self.store.clear()
            for path, item in self.api.objects.items():
                if "/pods/" in path:
                    metadata = item["metadata"]
                    name = f"{metadata['namespace']}/{metadata['name']}"
                    self.store[name] = json.loads(json.dumps(item))
            pause = await self.controller.sync(key)
            await self.watch.poll()
        return pause

    def live(self, name: str = "web") -> Any:
        return self.api.objects[f"/api/v1/namespaces/alice/pods/{name}"]

    def exists(self, name: str = "web") -> bool:
        return f"/api/v1/namespaces/alice/pods/{name}" in self.api.objects

    def record(self, name: str = "web") -> Record:
        return self.records.of(self.live(name))

    def annotation(self, key: str, name: str = "web") -> str | None:
        found: str | None = (self.live(name)["metadata"].get("annotations") or {}).get(
            f"status.slurmlet.io/{key}"
        )
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    async def uid_of(user: str) -> int | None:
        return UIDS.get(user)

    monkeypatch.setattr(submit, "uid_of", uid_of)
    return World(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the agent's monotonic clock forward."""
    now = [10_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


__all__ = ["FakeSession", "World", "pod"]


@pytest.fixture(autouse=True)
def agents_own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the agent, also where root runs the tests, from whom Slurm hides nothing."""
    monkeypatch.setattr("slurmlet.kubelet.slurm.query._own_name", lambda: "slurmlet")
