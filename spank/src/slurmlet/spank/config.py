"""The `[sandbox]` table of slurmlet.toml."""

import tomllib
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

from slurmlet.contracts.codec import CodecError, decode
from slurmlet.contracts.names import CONFIG_FILE

AGENT = "agent"
ALL = "all"


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The table `[sandbox.network]`: how pods are connected.

    `conf_dir` holds the CNI configuration, of which the first file by name counts; empty: there is
    no pod network. The plugins that it names are looked for in `bin_dirs`. `ranges` are the pods'
    addresses on all nodes, `deny` the networks that pods may not reach, both as CIDRs. `forwards`:
    this node forwards packets for the sake of pods only.
    """

    conf_dir: str = ""
    bin_dirs: tuple[str, ...] = ("/usr/lib/cni", "/opt/cni/bin")
    deny: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    forwards: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`users` says who gets a sandbox: "agent" (only pods' jobs), "all", or a Unix group besides.

    `agent_user` may read signed records. `subid_digest` is the SHA-256 of /etc/subuid and
    /etc/subgid that was found equal on all nodes; with any other content, or none, a sandbox has
    the user's own id only. `spool_dir` is slurmd's, where the sockets of running steps are.
    """

    users: str = AGENT
    agent_user: str = "slurmlet"
    subid_digest: str = ""
    spool_dir: str = "/var/spool/slurmd"
    network: Network = field(default_factory=Network)


def load(path: str = CONFIG_FILE) -> Settings:
    """Raises ConfigError."""
    try:
        data = tomllib.loads(Path(path).read_text())
        settings = decode(Settings, data.get("sandbox", {}), path=f"{path}: sandbox")
    except CodecError as error:
        raise ConfigError(str(error)) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    _check(settings.network, path=f"{path}: sandbox.network")
    return settings


def _check(network: Network, *, path: str) -> None:
    places = {
        "conf_dir": [network.conf_dir] if network.conf_dir else [],
        "bin_dirs": network.bin_dirs,
    }
    for key, values in places.items():
        for value in values:
            if not value.startswith("/") or ":" in value:
                raise ConfigError(f"{path}.{key}: {value!r} is no absolute path")
    for key, cidrs in (("deny", network.deny), ("ranges", network.ranges)):
        for cidr in cidrs:
            try:
                ip_network(cidr)
            except ValueError as error:
                raise ConfigError(f"{path}.{key}: {error}") from None
