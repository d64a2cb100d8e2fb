"""What a lab is called and where its things are: everything follows from its name.

`down` removes a lab knowing nothing but the name, so nothing here may depend on a record that a
crash could lose.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slurmlab.errors import LabError

Role = Literal["control", "compute"]

RUN_ROOT = Path("/var/lib/slurmlet-lab")
CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP_PARENT = "slurmlet-lab"
SOURCE_ROOT = Path(__file__).resolve().parents[3]
LAB_SOURCE = Path(__file__).resolve().parents[1]

HUB_ADDRESS = "10.77.0.254"
PREFIX_LENGTH = 24
REGISTRY = "registry.lab:5000"
CLUSTER = "lab"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the lab. Addresses are equal in all labs: their networks are separate."""

    name: str
    address: str
    role: Role
    pods: str = ""
    """Addresses of its pods, as CIDR."""


NODES = (
    Node(name="ctl", address="10.77.0.1", role="control"),
    Node(name="c1", address="10.77.0.11", role="compute", pods="10.78.1.0/24"),
    Node(name="c2", address="10.77.0.12", role="compute", pods="10.78.2.0/24"),
)


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account on every node."""

    name: str
    uid: int
    account: str
    first_subid: int


USERS = (
    User(name="alice", uid=2001, account="phys", first_subid=200_000),
    User(name="bob", uid=2002, account="chem", first_subid=300_000),
)


@dataclass(frozen=True, slots=True)
class Lab:
    """The paths of one lab."""

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LabError(
                f"lab name {self.name!r}: use 1 to 16 of a-z, 0-9 and '-', a letter first"
            )

    @property
    def run_dir(self) -> Path:
        """All files and mounts of the lab lie below this directory."""
        return RUN_ROOT / self.name

    @property
    def state_file(self) -> Path:
        """JSON: which image the lab runs on and how far `up` came."""
        return self.run_dir / "state.json"

    @property
    def inventory(self) -> Path:
        """The Ansible inventory of the lab."""
        return self.run_dir / "inventory.yml"

    @property
    def hub(self) -> Path:
        """File that pins the network namespace with the bridge."""
        return self.run_dir / "ns" / "hub"

    @property
    def home(self) -> Path:
        """The shared /home."""
        return self.run_dir / "home"

    @property
    def ssh_key(self) -> Path:
        """Private key that root of every node accepts."""
        return self.run_dir / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """Host keys of the nodes."""
        return self.run_dir / "ssh" / "known_hosts"

    def netns(self, node: Node) -> Path:
        """File that pins a node's network namespace."""
        return self.run_dir / "ns" / node.name

    def node_dir(self, node: Node) -> Path:
        """Directory with a node's overlay (upper, work, root) and console log."""
        return self.run_dir / "nodes" / node.name

    def root(self, node: Node) -> Path:
        """The node's root file system, as the host sees it."""
        return self.node_dir(node) / "root"

    def cgroup(self, hierarchy: str, *below: str) -> Path:
        """A cgroup of this lab in one hierarchy of the host."""
        return CGROUP_ROOT.joinpath(hierarchy, CGROUP_PARENT, self.name, *below)


def node_named(name: str) -> Node:
    """Return the node called `name`; raises LabError for a name that no node has."""
    for node in NODES:
        if node.name == name:
            return node
    raise LabError(f"node {name!r}: this lab has {', '.join(node.name for node in NODES)}")
