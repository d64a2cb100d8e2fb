"""A compute node without its kernel: links, mounts, leases, and a death at any step."""

import errno
import ipaddress
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slurmlet.spank import config, kernel, make, munge, record, remove
from slurmlet.spank.config import Network, Settings
from slurmlet.spank.layout import Sandbox
from slurmlet.spank.network import NetworkError, attach, cni, conf, leases, links, rules
from slurmlet.spank.network.links import Link
from slurmlet.spank.process import ProcessError

UID = 2001
CONF = {
    "cniVersion": "1.0.0",
    "name": "test",
    "plugins": [{"type": "ptp", "ipam": {"type": "host-local"}}, {"type": "tuning"}],
}
CREDENTIAL = json.dumps({"version": 1, "uid": UID, "podUID": "u", "mode": "net"})


class Killed(BaseException):
    """kill -9: what is thrown for each step from then on, so that no clean-up runs either."""


@dataclass
class FakeNode:
    """`kill_at` is the number of the step that is not done any more, `fail_at` of the one that
    fails; 0 for none."""

    root: Path
    addresses: int = 8
    leases: dict[str, str] = field(default_factory=dict)
    links: dict[int, tuple[str, str]] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)
    rules: str = ""
    calls: list[tuple[str, Mapping[str, str], dict[str, Any]]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    steps: int = 0
    kill_at: int = 0
    fail_at: int = 0
    network: Network = field(default_factory=Network)

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    def step(self) -> None:
        self.steps += 1
        if self.kill_at and self.steps >= self.kill_at:
            raise Killed
        if self.steps == self.fail_at:
            raise OSError(errno.EIO, "Input/output error")

    def sandbox(self, job: int) -> Sandbox:
        return Sandbox(self.jobs / str(job))

    def make(self, job: int) -> dict[str, Any]:
        make.make(job=job, uid=UID, gid=UID, mode="", credential=CREDENTIAL)
        data = record.read(self.sandbox(job).record)
        assert data is not None
        return dict(data)

    def remove(self, job: int) -> None:
        remove.remove(job, jobs=self.jobs)

    def collect(self) -> list[str]:
        return remove.collect(jobs=self.jobs)

    def resting(self) -> list[str]:
        return sorted(path.name for path in (self.root / "resting").glob("*.json"))

    # --- what stands for programs and the kernel

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 10.0,
        accepted: Sequence[int] = (0,),
        environment: Mapping[str, str] | None = None,
    ) -> str:
        name = Path(argv[0]).name
        self.step()
        if name in self.failing:
            raise ProcessError(f"{name}: broken", output='{"code": 11, "msg": "broken today"}')
        if name == "nft":
            self.rules = stdin.decode()
            return ""
        assert environment is not None
        given = json.loads(stdin)
        self.calls.append((name, environment, given))
        if environment["CNI_COMMAND"] == "DEL":
            if name == "ptp":
                self._del(environment)
            return ""
        return json.dumps(self._add(environment) if name == "ptp" else given["prevResult"])

    def _add(self, environment: Mapping[str, str]) -> dict[str, Any]:
        free = [
            str(ipaddress.ip_address("10.78.1.2") + offset)
            for offset in range(self.addresses)
            if str(ipaddress.ip_address("10.78.1.2") + offset) not in self.leases
        ]
        if not free:
            message = {"code": 999, "msg": "failed to allocate: no IP addresses available in range"}
            raise ProcessError("ptp: code 1", output=json.dumps(message))
        self.leases[free[0]] = environment["CNI_CONTAINERID"]
        self.step()
        index = max(self.links, default=4) + 1
        self.links[index] = (f"veth{index:x}", environment["CNI_NETNS"])
        self.step()
        return {
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": f"veth{index:x}"},
                {"name": "eth0", "sandbox": environment["CNI_NETNS"]},
            ],
            "ips": [{"interface": 1, "address": f"{free[0]}/24", "gateway": "10.78.1.1"}],
        }

    def _del(self, environment: Mapping[str, str]) -> None:
        for address, container in list(self.leases.items()):
            if container == environment["CNI_CONTAINERID"]:
                del self.leases[address]
        self.step()
        if environment["CNI_NETNS"]:
            self._drop(environment["CNI_NETNS"])

    def _drop(self, netns: str) -> None:
        self.links = {i: link for i, link in self.links.items() if link[1] != netns}

    def host_side(self, netns: Path, *, name: str) -> Link:
        self.step()
        for index, (host, where) in self.links.items():
            if where == str(netns):
                return Link(name=host, index=index)
        raise NetworkError(f"the CNI plugins made no {name}")

    def delete_link(self, name: str, index: int) -> None:
        self.step()
        if self.is_there(name, index):
            del self.links[index]

    def is_there(self, name: str, index: int) -> bool:
        return index in self.links and self.links[index][0] == name

    def make_namespaces(
        self, kinds: Sequence[str], *, uid: int, gid: int, maps: Any, directory: Path
    ) -> dict[str, record.Pin]:
        pins = {}
        for kind in kinds:
            self.step()
            self.mounts.append(str(directory / kind))
            status = (directory / kind).stat()
            pins[kind] = record.Pin(dev=status.st_dev, ino=status.st_ino)
        return pins

    def mount_pod(self, path: Path, *, uid: int, gid: int) -> None:
        self.step()
        self.mounts.append(str(path))

    def unmount(self, path: Path) -> None:
        self.step()
        self.mounts = [place for place in self.mounts if place != str(path)]
        # The last that held the namespace: its end of a pair goes, and so does the host's.
        if path.name == "net":
            self._drop(str(path))

    def sign(self, payload: str, *, reader: str) -> "FakeSigning":
        return FakeSigning(self, payload)


@dataclass
class FakeSigning:
    node: FakeNode
    payload: str

    def end(self) -> str:
        self.node.step()
        return self.payload


def install(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a fake node in the place of this one."""
    (node.root / "bin").mkdir()
    for name in ("ptp", "tuning"):
        (node.root / "bin" / name).touch()
    node.network = Network(
        conf_dir="/nowhere", bin_dirs=(str(node.root / "bin"),), ranges=("10.78.0.0/16",)
    )
    stands: list[tuple[Any, str, Any]] = [
        (cni, "run", node.run),
        (rules, "run", node.run),
        (links, "host_side", node.host_side),
        (links, "delete", node.delete_link),
        (links, "is_there", node.is_there),
        (kernel, "make_namespaces", node.make_namespaces),
        (kernel, "mount_pod", node.mount_pod),
        (kernel, "unmount", node.unmount),
        (munge, "Signing", node.sign),
        (munge, "signed_by_root", lambda credential: credential),
        (config, "load", lambda: Settings(network=node.network)),
        (attach, "load", lambda directory: conf.parse(json.dumps(CONF), path="conf")),
        (attach, "LOCK", node.root / "network"),
        (leases, "RESTING", node.root / "resting"),
        (make, "sandbox_of", node.sandbox),
        # Only root gives files away.
        (os, "fchown", lambda *_: None),
    ]
    for place, name, stand in stands:
        monkeypatch.setattr(place, name, stand)
    for name in ("unlink", "rmdir", "mkdir", "touch", "chmod", "rename"):
        monkeypatch.setattr(Path, name, _counted(node, getattr(Path, name)))
    for name in ("write", "fchmod"):
        monkeypatch.setattr(os, name, _counted(node, getattr(os, name)))


def _counted(node: FakeNode, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        node.step()
        return real(*args, **options)

    return call
