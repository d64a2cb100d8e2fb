"""/etc/hosts and /etc/resolv.conf of a pod, and its names. No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slurmlet.contracts.podproto import Plan
from slurmlet.supervisor.addresses import is_loopback

_MAX_LABEL = 63
"""Characters of a DNS label; kubelet cuts longer names."""
_MAX_HOSTNAME = 64
"""Characters that the kernel takes (__NEW_UTS_LEN)."""
_MAX_SERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_CHARACTERS = 2048
"""What Kubernetes allows; of name servers resolvers use no more (resolv.conf(5), MAXNS)."""
_LOCAL = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
fe00::\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


class HostnameError(ValueError):
    """A pod whose name cannot be a host name; the message is for its author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """`host` is the pod's host name, empty if it is the node's; `qualified` what DNS calls it,
    empty if nothing does; `kernel` is what hostname(1) prints in the pod."""

    host: str = ""
    qualified: str = ""
    kernel: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """The text of resolv.conf, and what did not fit into it."""

    text: str
    left_out: tuple[str, ...] = ()


def pod_names(plan: Plan) -> Names:
    """The names of a pod in a sandbox.

    Raises:
        HostnameError: its full name is too long for the kernel, which is asked to have it.
    """
    spec, metadata = plan.pod["spec"], plan.pod["metadata"]
    if spec.get("hostNetwork"):
        return Names()
    override = spec.get("hostnameOverride")
    if override:
        return Names(host=override, kernel=override)
    host = str(spec.get("hostname") or metadata["name"])[:_MAX_LABEL].rstrip("-.")
    if not spec.get("subdomain"):
        return Names(host=host, kernel=host)
    domain = plan.cluster_domain or "cluster.local"
    qualified = f"{host}.{spec['subdomain']}.{metadata['namespace']}.svc.{domain}"
    if not spec.get("setHostnameAsFQDN"):
        return Names(host=host, qualified=qualified, kernel=host)
    if len(qualified) > _MAX_HOSTNAME:
        raise HostnameError(
            f"setHostnameAsFQDN: {qualified} has {len(qualified)} characters, a host name at most"
            f" {_MAX_HOSTNAME}"
        )
    return Names(host=host, qualified=qualified, kernel=qualified)


def hosts(plan: Plan, *, node: str, names: Names, own_network: bool) -> str:
    """The pod's address and names; in its node's network the node's file, as kubelet makes it, and
    the pod's own name if it has one: programs look up their host name. Then the hostAliases."""
    own = "\t".join(dict.fromkeys(name for name in (names.qualified, names.host) if name))
    if own_network:
        lines = [_LOCAL.rstrip("\n"), f"{plan.pod_ip}\t{own}"]
    else:
        lines = [node.rstrip("\n"), *([f"127.0.1.1\t{own}"] if own else [])]
    aliases = plan.pod["spec"].get("hostAliases") or ()
    if aliases:
        lines.append("# Entries added by HostAliases.")
    lines.extend("\t".join([alias["ip"], *(alias.get("hostnames") or ())]) for alias in aliases)
    return "\n".join(lines) + "\n"


def resolv_conf(plan: Plan, *, node: str, own_network: bool) -> Resolver:
    """The cluster's name servers, the node's or none, by dnsPolicy; completed by dnsConfig."""
    spec = plan.pod["spec"]
    servers, searches, options = _node_resolver(node)
    if own_network:
        # The node's own loopback is not the pod's.
        servers = [server for server in servers if not is_loopback(server.partition("%")[0])]
    if spec.get("dnsPolicy") == "None":
        servers, searches, options = [], [], []
    elif _asks_the_cluster(plan):
        domain = plan.cluster_domain
        own = [f"{plan.pod['metadata']['namespace']}.svc.{domain}", f"svc.{domain}", domain]
        servers, searches, options = list(plan.dns_servers), [*own, *searches], ["ndots:5"]
    config = spec.get("dnsConfig") or {}
    servers.extend(config.get("nameservers") or ())
    searches.extend(config.get("searches") or ())
    named = {option.partition(":")[0]: option for option in options}
    for option in config.get("options") or ():
        value = option.get("value")
        named[option["name"]] = f"{option['name']}:{value}" if value else option["name"]
    kept_servers, more_servers = _at_most(servers, _MAX_SERVERS)
    kept_searches, more_searches = _at_most(searches, _MAX_SEARCHES)
    while len(" ".join(kept_searches)) > _MAX_SEARCH_CHARACTERS:
        more_searches.insert(0, kept_searches.pop())
    lines = [f"nameserver {server}" for server in kept_servers]
    if kept_searches:
        lines.append("search " + " ".join(kept_searches))
    if named:
        lines.append("options " + " ".join(named.values()))
    return Resolver(text="\n".join(lines) + "\n", left_out=(*more_servers, *more_searches))


def _asks_the_cluster(plan: Plan) -> bool:
    spec: Mapping[str, Any] = plan.pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    first = policy == "ClusterFirst" and not spec.get("hostNetwork")
    return bool(plan.dns_servers) and (first or policy == "ClusterFirstWithHostNet")


def _node_resolver(text: str) -> tuple[list[str], list[str], list[str]]:
    """Name servers, search domains and options."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "nameserver":
            servers.append(rest.strip())
        elif word == "search":
            searches = rest.split()
        elif word == "options":
            options.extend(rest.split())
    return servers, searches, options


def _at_most(items: Iterable[str], count: int) -> tuple[list[str], list[str]]:
    distinct = list(dict.fromkeys(items))
    return distinct[:count], distinct[count:]
