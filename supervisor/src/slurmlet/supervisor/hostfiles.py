"""/etc/hosts and /etc/resolv.conf of a pod on its node's network. No I/O."""

from collections.abc import Mapping
from typing import Any

_MAX_HOSTNAME = 63
"""Characters that the kernel and DNS allow; kubelet cuts longer names."""


def pod_hostname(pod: Mapping[str, Any]) -> str:
    """The host name of a pod in a sandbox; empty if it is the node's."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        return ""
    return str(spec.get("hostname") or pod["metadata"]["name"])[:_MAX_HOSTNAME].rstrip("-.")


def hosts(spec: Mapping[str, Any], *, node: str, hostname: str = "") -> str:
    """The node's file with the pod's hostAliases, as kubelet makes it for the host's network, and
    with the pod's own name if it has one: programs look up their host name."""
    lines = [node.rstrip("\n")]
    if hostname:
        lines.append(f"127.0.1.1\t{hostname}")
    aliases = spec.get("hostAliases") or ()
    if aliases:
        lines.append("# Entries added by HostAliases.")
    lines.extend("\t".join([alias["ip"], *(alias.get("hostnames") or ())]) for alias in aliases)
    return "\n".join(lines) + "\n"


def resolv_conf(spec: Mapping[str, Any], *, node: str) -> str:
    """The node's file, or none of it with dnsPolicy None, completed by the pod's dnsConfig."""
    config = spec.get("dnsConfig") or {}
    base = "" if spec.get("dnsPolicy") == "None" else node
    servers, searches, options = [], [], []
    for line in base.splitlines():
        word, _, rest = line.partition(" ")
        if word == "nameserver":
            servers.append(rest.strip())
        elif word == "search":
            searches = rest.split()
        elif word == "options":
            options.extend(rest.split())
    servers.extend(config.get("nameservers") or ())
    searches.extend(config.get("searches") or ())
    options.extend(
        f"{option['name']}:{option['value']}" if option.get("value") else option["name"]
        for option in config.get("options") or ()
    )
    lines = [f"nameserver {server}" for server in dict.fromkeys(servers)]
    if searches:
        lines.append("search " + " ".join(dict.fromkeys(searches)))
    if options:
        lines.append("options " + " ".join(dict.fromkeys(options)))
    return "\n".join(lines) + "\n"
