"""The `[kubelet]` table of slurmlet.toml. Nothing but dataclasses: the small lease process reads it
too."""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from slurmlet.contracts.names import (
    BROKER_SOCKET,
    FURTHER_KUBELET_PORTS,
    IDENTITY_FILE,
    KUBELET_PORT,
    NODE_NAME,
    PARTITION_LABEL,
    PKI_DIR,
    POLICY_FILE,
    SUPERVISOR_PORT,
)
from slurmlet.contracts.request import RequestPolicy, policy_problems

SINGLE, PER_PARTITION = "single", "per-partition"
DEFAULT_POLL_SECONDS = 10.0
MAX_NAMESERVERS = 3
"""resolv.conf(5): MAXNS."""
MAX_NODE_NAME = 52
"""Characters: with system:node: it is the common name of a certificate, which has 64 (X.520)."""
MAX_PARTITIONS = 100
"""With a node each: four connections to the API server, a port and a heartbeat apiece."""
_NODE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubelet:
    """The agent of one virtual node. Times are in seconds, files are PEM.

    `server` is the URL of the API server. `address` is this host's address: the node's InternalIP,
    what the API server dials for logs, and what supervisors dial.

    `nodes` is "single", one virtual node `node_name` for the whole cluster, or "per-partition", one
    for each of `partitions`, `node_name`-PARTITION. The second and all further of these serve the
    kubelet API on ports from `further_ports` on, and their certificates lie beside `client_cert`,
    under their names. `ca`, `client_cert` and `client_key` are what the agent is to
    the API server (system:node:NAME); `ca` also says whose client certificates the kubelet API
    accepts. `serving_cert` and `serving_key` serve the kubelet API on `port` and the supervisors
    on `supervisor_port`.

    `state_dir` holds the key that job tokens are made with, and one small file per live job; it
    belongs to the agent's user alone. `broker_socket` is where the broker listens.
    `identity_file` is the same file that the broker reads. `policy_file` is where the webhook finds
    what it must know of the site; the agent makes the file, but not its directory.

    `poll_seconds` is the time between two looks at Slurm when nothing else happens; changes arrive
    by push. `slurm_bin` is where squeue, sacct and sinfo are found.

    `pod_network` says that pods which do not ask for their node's network have an address of their
    own, which root on their node must have signed; `unmunge` is the program that decodes it.
    `dns_servers` are the addresses that answer for `cluster_domain`, and where pods send their
    questions.

    `engines` are the container engines that a pod may ask for; the first is the default.
    `request` is the site's part of the translation of a pod into a job. `max_pods` is the node's
    capacity for pods. `taint` keeps pods away that do not tolerate slurmlet.io/slurm; turn it off
    for conformance tests only.
    """

    server: str
    address: str
    nodes: str = SINGLE
    partitions: tuple[str, ...] = ()
    node_name: str = NODE_NAME
    ca: str = f"{PKI_DIR}/ca.crt"
    client_cert: str = f"{PKI_DIR}/node-{NODE_NAME}.crt"
    client_key: str = f"{PKI_DIR}/node-{NODE_NAME}.key"
    serving_cert: str = f"{PKI_DIR}/kubelet.crt"
    serving_key: str = f"{PKI_DIR}/kubelet.key"
    port: int = KUBELET_PORT
    further_ports: int = FURTHER_KUBELET_PORTS
    supervisor_port: int = SUPERVISOR_PORT
    state_dir: str = "/var/lib/slurmlet/kubelet"
    broker_socket: str = BROKER_SOCKET
    identity_file: str = IDENTITY_FILE
    policy_file: str = POLICY_FILE
    poll_seconds: float = DEFAULT_POLL_SECONDS
    slurm_bin: str = "/usr/bin"
    pod_network: bool = False
    unmunge: str = "/usr/bin/unmunge"
    dns_servers: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    engines: tuple[str, ...] = ("crun", "apptainer")
    max_pods: int = 5000
    taint: bool = True
    request: RequestPolicy = field(default_factory=RequestPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNode:
    """One node of Kubernetes, and who the agent is as this node; files are PEM. `partition` is the
    one of Slurm that it stands for, empty for the whole cluster."""

    name: str
    partition: str = ""
    port: int
    client_cert: str
    client_key: str


def virtual_nodes(config: Kubelet) -> tuple[VirtualNode, ...]:
    """The nodes that the agent serves."""
    if config.nodes == PER_PARTITION:
        return tuple(_of_partition(config, name, at) for at, name in enumerate(config.partitions))
    return (
        VirtualNode(
            name=config.node_name,
            port=config.port,
            client_cert=config.client_cert,
            client_key=config.client_key,
        ),
    )


def node_of_partition(prefix: str, partition: str) -> str:
    """The name of a partition's node: in lower case, with a dash for what names of nodes lack."""
    return f"{prefix}-{re.sub('[^a-z0-9-]', '-', partition.lower())}"


def _of_partition(config: Kubelet, partition: str, position: int) -> VirtualNode:
    name = node_of_partition(config.node_name, partition)
    pki = PurePosixPath(config.client_cert).parent
    return VirtualNode(
        name=name,
        partition=partition,
        port=config.further_ports + position - 1 if position else config.port,
        client_cert=str(pki / f"node-{name}.crt"),
        client_key=str(pki / f"node-{name}.key"),
    )


def problems(config: Kubelet) -> list[str]:
    """What is wrong with a decoded table, one line for each key."""
    found = []
    if not config.server.startswith("https://"):
        found.append(f"kubelet.server: {config.server!r} is no https URL")
    if not config.engines:
        found.append("kubelet.engines: empty; name crun or apptainer")
    if not 1 <= config.poll_seconds <= 300:
        found.append(f"kubelet.poll_seconds: {config.poll_seconds} is not between 1 and 300")
    found += [
        f"kubelet.dns_servers: {server!r} is no IP address"
        for server in config.dns_servers
        if not _is_address(server)
    ]
    if len(config.dns_servers) > MAX_NAMESERVERS:
        found.append(f"kubelet.dns_servers: resolvers use no more than {MAX_NAMESERVERS}")
    if not _DOMAIN.fullmatch(config.cluster_domain):
        found.append(f"kubelet.cluster_domain: {config.cluster_domain!r} is no domain name")
    found += [f"kubelet.{problem}" for problem in policy_problems(config.request)]
    if not PurePosixPath(config.policy_file).is_absolute():
        found.append(f"kubelet.policy_file: {config.policy_file!r} is no absolute path")
    for name in ("port", "supervisor_port"):
        if not 0 < getattr(config, name) < 65536:
            found.append(f"kubelet.{name}: {getattr(config, name)} is no port")
    return found + _node_problems(config)


def _node_problems(config: Kubelet) -> list[str]:
    if config.nodes not in (SINGLE, PER_PARTITION):
        return [f"kubelet.nodes: {config.nodes!r} is neither {SINGLE} nor {PER_PARTITION}"]
    found = []
    if not _NODE.fullmatch(config.node_name) or len(config.node_name) > MAX_NODE_NAME:
        found.append(
            f"kubelet.node_name: {config.node_name!r} is no DNS name of at most {MAX_NODE_NAME}"
            " characters; use lower case letters, digits and dashes"
        )
    if config.nodes == SINGLE:
        if config.partitions:
            given = f"{config.partitions!r} with nodes = {SINGLE!r}, which has one node for all"
            found.append(f"kubelet.partitions: {given}; remove them")
        return found
    if found:
        # Each partition's node has this name in its own.
        return found
    if not 0 < len(config.partitions) <= MAX_PARTITIONS:
        count = len(config.partitions)
        return [f"kubelet.partitions: {count}; name those that get a node, 1 to {MAX_PARTITIONS}"]
    if "partition" in config.request.locks:
        found.append(
            f"kubelet.request.locks.partition: each node is a partition with nodes ="
            f" {PER_PARTITION!r}; remove it"
        )
    highest = config.further_ports + len(config.partitions) - 2
    ports = range(config.further_ports, highest + 1)
    if ports and (config.further_ports < 1 or highest > 65535):
        found.append(f"kubelet.further_ports: {config.further_ports} to {highest} are no ports")
    found += [
        f"kubelet.further_ports: {config.further_ports} to {highest} has kubelet.{name}"
        for name in ("port", "supervisor_port")
        if getattr(config, name) in ports
    ]
    names: dict[str, str] = {}
    for partition in config.partitions:
        name = node_of_partition(config.node_name, partition)
        if not _LABEL.fullmatch(partition):
            found.append(
                f"kubelet.partitions: {partition!r} can be no value of the label"
                f" {PARTITION_LABEL}; leave it out, or rename it in slurm.conf"
            )
        elif not _NODE.fullmatch(name) or len(name) > MAX_NODE_NAME:
            found.append(
                f"kubelet.partitions: {partition!r} would be node {name!r}, which is no DNS name of"
                f" at most {MAX_NODE_NAME} characters; leave it out, or rename it in slurm.conf"
            )
        elif name in names:
            found.append(
                f"kubelet.partitions: {names[name]!r} and {partition!r} would both be node"
                f" {name!r}; leave one of them out"
            )
        names[name] = partition
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
