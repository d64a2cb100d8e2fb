"""The table `[controlplane]` of slurmlet.toml."""

import ipaddress
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from slurmlet.controlplane.errors import ControlPlaneError

TABLE = "controlplane"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the three processes need to know.

    `advertise_address` is published as the endpoint of default/kubernetes; where it is a loopback
    address nothing is published. etcd and the controller-manager listen on loopback only.
    `etcd_fsync` is False only where losing the cluster in a power cut does not matter.
    `node_grace_seconds` is how long a node may be silent before its pods leave their Services; they
    are not evicted in any case. By `audit_policy`, a file, the API server writes requests to its
    log, which is its output; with an empty one it does not.
    """

    advertise_address: str
    bind_address: str = "0.0.0.0"
    secure_port: int = 6443
    etcd_client_port: int = 2379
    etcd_peer_port: int = 2380
    controller_manager_port: int = 10257
    service_cidr: str = "10.96.0.0/16"
    cluster_domain: str = "cluster.local"
    pki_dir: Path = Path("/etc/slurmlet/pki")
    data_dir: Path = Path("/var/lib/slurmlet/controlplane")
    bin_dir: Path = Path("/opt/slurmlet/controlplane")
    etcd_fsync: bool = True
    node_grace_seconds: int = 900
    audit_policy: str = ""

    @property
    def publishes_endpoint(self) -> bool:
        """Kubernetes refuses loopback addresses in endpoints (EndpointSlice validation)."""
        return not ipaddress.ip_address(self.advertise_address).is_loopback


LEAST_GRACE, MOST_GRACE = 30, 86400
PORT_FIELDS = ("secure_port", "etcd_client_port", "etcd_peer_port", "controller_manager_port")


def load(path: Path) -> Config:
    """Reads and checks the table; raises ControlPlaneError naming the field and the remedy."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ControlPlaneError(f"{path} does not exist: write a [{TABLE}] table into it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ControlPlaneError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ControlPlaneError(f"{path} is not valid TOML: {error}") from None
    table = document.get(TABLE)
    if not isinstance(table, dict):
        raise ControlPlaneError(f"{path} has no [{TABLE}] table: add one with advertise_address")
    try:
        return parse(table)
    except ControlPlaneError as error:
        raise ControlPlaneError(f"{path}, [{TABLE}]: {error}") from None


def load_if_there(path: Path) -> Config | None:
    """The same, or None where nobody has written the table yet."""
    try:
        with path.open("rb") as source:
            if TABLE not in tomllib.load(source):
                return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        pass  # load() says what is wrong
    return load(path)


def parse(table: dict[str, Any]) -> Config:
    """The checked config of a parsed table; raises ControlPlaneError."""
    known = {field.name: field.type for field in fields(Config)}
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ControlPlaneError(f"unknown key {unknown[0]!r}: the keys are {', '.join(known)}")
    if "advertise_address" not in table:
        raise ControlPlaneError("advertise_address is missing: the address of this host for nodes")
    values = {name: _typed(name, known[name], value) for name, value in table.items()}
    config = Config(**values)
    _check(config)
    return config


def _typed(name: str, kind: Any, value: Any) -> Any:
    wanted = str if kind is Path else kind
    if type(value) is not wanted:
        raise ControlPlaneError(f"{name} = {value!r} must be a {wanted.__name__}")
    if kind is Path and not value.startswith("/"):
        raise ControlPlaneError(f"{name} = {value!r} must be an absolute path")
    if any(ord(character) < 32 for character in str(value)):
        raise ControlPlaneError(f"{name} = {value!r} must not contain control characters")
    return Path(value) if kind is Path else value


def _check(config: Config) -> None:
    for name in ("advertise_address", "bind_address"):
        value = getattr(config, name)
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            raise ControlPlaneError(f"{name} = {value!r} must be an IP address") from None
        if name == "advertise_address" and address.is_unspecified:
            raise ControlPlaneError(f"{name} = {value!r} must be an address that others can reach")
    try:
        network = ipaddress.ip_network(config.service_cidr)
    except ValueError as error:
        raise ControlPlaneError(
            f"service_cidr = {config.service_cidr!r} must be a network: {error}"
        ) from None
    if network.num_addresses < 4:
        raise ControlPlaneError(f"service_cidr = {config.service_cidr!r} must hold 4 addresses")
    if not LEAST_GRACE <= config.node_grace_seconds <= MOST_GRACE:
        raise ControlPlaneError(
            f"node_grace_seconds = {config.node_grace_seconds} must be from {LEAST_GRACE}, because"
            f" the lease is renewed every 10 s, to {MOST_GRACE}"
        )
    if config.audit_policy and not config.audit_policy.startswith("/"):
        raise ControlPlaneError(f"audit_policy = {config.audit_policy!r} must be an absolute path")
    ports = {name: getattr(config, name) for name in PORT_FIELDS}
    for name, port in ports.items():
        if not 1 <= port <= 65535:
            raise ControlPlaneError(f"{name} = {port} must be between 1 and 65535")
        clash = next((other for other in ports if other != name and ports[other] == port), None)
        if clash:
            raise ControlPlaneError(f"{name} = {port} is also {clash}: choose another port")
