"""Asks a node what the checks want to know; everything that is read or run is here."""

import json
import tomllib
from collections.abc import Sequence
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from shutil import which
from typing import Any

from slurmlet.cli import dns as names
from slurmlet.cli import exports, network, slurm
from slurmlet.cli.finding import Finding
from slurmlet.cli.process import ask
from slurmlet.kubelet.slurm.privacy import level_argv
from slurmlet.spank import config as sandbox
from slurmlet.spank.network import NetworkError
from slurmlet.spank.network import conf as cni

_EXPORTS = Path("/etc/exports")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_MOUNTS = Path("/proc/self/mounts")
_DISABLED = Path("/run/slurmlet/disabled")
_PLUGINS = Path("/opt/slurmlet/spank")
_SERVERS = 8
"""NFS servers that are asked; each may be silent for some seconds."""
_CLUSTER_DOMAIN = "cluster.local"


def examine(
    *, config: str, dns: Sequence[str] | None = None, servers: Sequence[str] = ()
) -> list[Finding]:
    """All findings about this node, what is wrong with its configuration first."""
    try:
        settings = sandbox.load(config).network
        tables = tomllib.loads(_read(Path(config)))
    except sandbox.ConfigError as error:
        return [Finding(f"{error}: roll out again (slurmlet.hpc.site)")]
    # Only the control host has this table; compute nodes have what prologs and jobs read.
    agent = tables.get("kubelet", {})
    slurm_config = ask("scontrol", "show", "config")
    found = _slurm(slurm_config)
    if agent:
        user = tables.get("broker", {}).get("agent_user", "slurmlet")
        found += slurm.privacy(slurm_config, user=user, level=ask(*level_argv(user)))
    ranges = [net for text in settings.ranges if isinstance(net := ip_network(text), IPv4Network)]
    if settings.conf_dir and ranges:
        found += _network(settings, ranges, compute=not agent)
        found += exports.examine(_exports(servers), ranges)
    else:
        text = "pods have no network of their own: no host of the inventory has slurmlet_pod_cidr"
        found.append(Finding(text, problem=False))
    domain = agent.get("cluster_domain", _CLUSTER_DOMAIN)
    for server in agent.get("dns_servers", []) if dns is None else dns:
        found += names.examine(server, domain=domain)
    return found


def _slurm(config: str | None) -> list[Finding]:
    if not any(_PLUGINS.glob("*/slurmlet_spank.so")):
        text = "there is no plugin for Slurm here (slurmlet_spank_plugins): pods have no sandbox"
        return [Finding(text, problem=False)]
    return slurm.examine(config, disabled=_read(_DISABLED).strip())


def _network(
    settings: sandbox.Network, ranges: list[IPv4Network], *, compute: bool
) -> list[Finding]:
    found: list[Finding] = []
    own: tuple[IPv4Network, ...] | None = ()
    if compute:
        try:
            conf = cni.load(Path(settings.conf_dir))
        except NetworkError as error:
            found.append(Finding(f"{error}: {network.PLAYBOOK}, or repair the site's own"))
        else:
            own = network.own_ranges(conf.plugins)
            present = {
                path.name
                for place in settings.bin_dirs
                for path in (Path(place).iterdir() if Path(place).is_dir() else ())
            }
            found += network.plugins(conf.plugins, present=present, bin_dirs=settings.bin_dirs)
        if not which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin"):
            found.append(Finding("nft is not in PATH: install nftables; it filters pods' packets"))
        deny = [net for text in settings.deny if isinstance(net := ip_network(text), IPv4Network)]
        found += network.storage(_file_servers(), deny=deny)
    node = network.Node(
        interfaces=_json("ip", "-json", "address"),
        routes=_json("ip", "-json", "route"),
        forwarding=_read(_FORWARDING).strip() == "1",
        compute=compute,
        own=own,
    )
    return found + network.examine(node, ranges)


def _exports(servers: Sequence[str]) -> list[exports.Export]:
    """Of this host, and of the file servers that answer."""
    files = [_EXPORTS, *sorted(_EXPORTS.with_suffix(".d").glob("*.exports"))]
    texts = [_read(path) for path in files]
    texts.append(ask("exportfs", "-s") or "")
    if which("showmount", path="/usr/sbin:/sbin:/usr/bin:/bin"):
        asked = list(dict.fromkeys([*servers, *_file_servers()]))[:_SERVERS]
        texts += [ask("showmount", "--exports", "--no-headers", host) or "" for host in asked]
    found = [export for text in texts for export in exports.parse(text)]
    return list(dict.fromkeys(found))


def _file_servers() -> dict[str, str]:
    """IPv4 address of each NFS server → what is mounted from there."""
    return exports.mounted(_read(_MOUNTS))


def _json(*argv: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ask(*argv) or "[]")
    return found


def _read(path: Path) -> str:
    """Empty for what is not there, or not for us to see."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
