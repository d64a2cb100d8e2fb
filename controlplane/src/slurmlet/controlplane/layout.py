"""Pure: a config becomes the argv of each process and the text of each systemd unit."""

import ipaddress
import re
from dataclasses import dataclass, replace

from slurmlet.controlplane.certificates import Request
from slurmlet.controlplane.config import Config

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One server of the control plane.

    `after` names those that must be up first; `notifies` says that it tells systemd when it is
    ready; `port` is where it listens.
    """

    name: str
    unit: str
    description: str
    argv: tuple[str, ...]
    listens: tuple[tuple[str, int], ...]
    after: tuple[str, ...] = ()
    notifies: bool = False


def processes(config: Config) -> tuple[Process, ...]:
    """The servers in the order in which they start."""
    return (_etcd(config), _apiserver(config), _controller_manager(config))


def units(config: Config) -> dict[str, str]:
    """File name → text of the systemd units."""
    return {f"{process.unit}.service": _unit(process, config) for process in processes(config)}


def named(request: Request, config: Config) -> Request:
    """The request with the names that pods know the API server by.

    kube-apiserver gives default/kubernetes the first address of the service range.
    """
    first = str(ipaddress.ip_network(config.service_cidr)[1])
    return replace(request, service_ip=first, cluster_domain=config.cluster_domain)


def api_url(config: Config) -> str:
    """Where clients on other hosts reach the API server."""
    address = config.advertise_address
    host = f"[{address}]" if ":" in address else address
    return f"https://{host}:{config.secure_port}"


def _etcd(config: Config) -> Process:
    pki = config.pki_dir
    client = f"https://{LOOPBACK}:{config.etcd_client_port}"
    peer = f"https://{LOOPBACK}:{config.etcd_peer_port}"
    flags = {
        "name": "slurmlet",
        "data-dir": config.data_dir / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"slurmlet={peer}",
        "trusted-ca-file": pki / "ca.crt",
        "cert-file": pki / "etcd-server.crt",
        "key-file": pki / "etcd-server.key",
        "client-cert-auth": True,
        # The cluster CA signs users too; without this alice's certificate would open etcd.
        "client-cert-allowed-hostname": "apiserver-etcd-client",
        # etcd's gateway dials itself with the server's certificate, which the line above refuses.
        "enable-grpc-gateway": False,
        "peer-trusted-ca-file": pki / "ca.crt",
        "peer-cert-file": pki / "etcd-server.crt",
        "peer-key-file": pki / "etcd-server.key",
        "peer-client-cert-auth": True,
        "peer-cert-allowed-hostname": "etcd-server",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "logger": "zap",
        "log-level": "warn",
    }
    if not config.etcd_fsync:
        flags["unsafe-no-fsync"] = True
    return Process(
        name="etcd",
        unit="slurmlet-etcd",
        description="etcd of the slurmlet control plane",
        argv=_argv(config, "etcd", flags),
        listens=((LOOPBACK, config.etcd_client_port), (LOOPBACK, config.etcd_peer_port)),
        notifies=True,
    )


def _apiserver(config: Config) -> Process:
    pki = config.pki_dir
    issuer = f"https://kubernetes.default.svc.{config.cluster_domain}"
    flags = {
        "advertise-address": config.advertise_address,
        "bind-address": config.bind_address,
        "secure-port": config.secure_port,
        "etcd-servers": f"https://{LOOPBACK}:{config.etcd_client_port}",
        "etcd-cafile": pki / "ca.crt",
        "etcd-certfile": pki / "apiserver-etcd-client.crt",
        "etcd-keyfile": pki / "apiserver-etcd-client.key",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "client-ca-file": pki / "ca.crt",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": True,
        "service-cluster-ip-range": config.service_cidr,
        "service-account-issuer": issuer,
        "service-account-signing-key-file": pki / "sa.key",
        "service-account-key-file": pki / "sa.pub",
        "kubelet-certificate-authority": pki / "ca.crt",
        "kubelet-client-certificate": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP,Hostname",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": pki / "front-proxy-client.crt",
        "proxy-client-key-file": pki / "front-proxy-client.key",
        # Services are headless here: without it a webhook or an aggregated API behind one fails
        # with `cannot route to service with ClusterIP "None"`.
        "enable-aggregator-routing": True,
        # Without it a stop waits for open watches, which never end, until systemd kills.
        "shutdown-watch-termination-grace-period": "3s",
        "profiling": False,
    }
    if not config.publishes_endpoint:
        flags["endpoint-reconciler-type"] = "none"
    if config.audit_policy:
        # "-" is its standard output.
        flags |= {"audit-policy-file": config.audit_policy, "audit-log-path": "-"}
    return Process(
        name="kube-apiserver",
        unit="slurmlet-apiserver",
        description="Kubernetes API server",
        argv=_argv(config, "kube-apiserver", flags),
        listens=((config.bind_address, config.secure_port),),
        after=("slurmlet-etcd",),
        notifies=True,
    )


def _controller_manager(config: Config) -> Process:
    pki = config.pki_dir
    kubeconfig = pki / "controller-manager.conf"
    flags = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": LOOPBACK,
        "secure-port": config.controller_manager_port,
        # It is the only one: a lease would only delay its restart by 15 s.
        "leader-elect": False,
        # A lost agent is not a lost node: jobs go on (docs/architecture.md, Rules, 5).
        "controllers": "*,-taint-eviction-controller",
        "node-monitor-grace-period": f"{config.node_grace_seconds}s",
        "terminated-pod-gc-threshold": 200,
        "root-ca-file": pki / "ca.crt",
        "service-account-private-key-file": pki / "sa.key",
        "use-service-account-credentials": True,
        "cluster-signing-cert-file": pki / "ca.crt",
        "cluster-signing-key-file": pki / "ca.key",
        "client-ca-file": pki / "ca.crt",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        # Its default is made at start, in /usr/libexec.
        "flex-volume-plugin-dir": config.data_dir / "flexvolume",
        "kube-api-qps": 500,
        "kube-api-burst": 1000,
        "profiling": False,
    }
    return Process(
        name="kube-controller-manager",
        unit="slurmlet-controller-manager",
        description="Kubernetes controller manager",
        argv=_argv(config, "kube-controller-manager", flags),
        listens=((LOOPBACK, config.controller_manager_port),),
        after=("slurmlet-apiserver",),
    )


def _argv(config: Config, program: str, flags: dict[str, object]) -> tuple[str, ...]:
    words = (f"--{name}={_word(value)}" for name, value in flags.items())
    return (str(config.bin_dir / program), *words)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unit(process: Process, config: Config) -> str:
    order = [f"{unit}.service" for unit in process.after]
    command = " \\\n  ".join(_quoted(word) for word in process.argv)
    writes = _writable(config) if process.name == "etcd" else []
    lines = [
        "[Unit]",
        f"Description={process.description}",
        "Documentation=https://kubernetes.io/docs/concepts/overview/components/",
        *[f"Wants={name}" for name in order],
        "Wants=network-online.target",
        f"After={' '.join(['network-online.target', *order])}",
        # Restarts never give up: a full disk that is emptied must be enough to come back.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f"Type={'notify' if process.notifies else 'exec'}",
        f"ExecStart={command}",
        "Restart=always",
        "RestartSec=1",
        "TimeoutStartSec=120",
        "TimeoutStopSec=30",
        "LimitNOFILE=65536",
        "OOMScoreAdjust=-500",
        "UMask=0077",
        # root without any capability: it owns its keys and its data, and can do nothing else.
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "PrivateDevices=yes",
        "PrivateTmp=yes",
        "ProtectHome=yes",
        "ProtectSystem=strict",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "RestrictNamespaces=yes",
        "LockPersonality=yes",
        *writes,
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _writable(config: Config) -> list[str]:
    """systemd makes a directory below /var/lib itself; any other one must exist."""
    if config.data_dir.is_relative_to("/var/lib"):
        relative = config.data_dir.relative_to("/var/lib")
        return [f"StateDirectory={_quoted(str(relative))}", "StateDirectoryMode=0700"]
    return [f"ReadWritePaths={_quoted(str(config.data_dir))}"]


def _quoted(word: str) -> str:
    """A word as systemd.service(5) reads it: % and $ are doubled, odd characters are quoted."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    escaped = escaped.replace("$", "$$")
    return escaped if re.fullmatch(r"[A-Za-z0-9_.,:/=*@%$+-]+", escaped) else f'"{escaped}"'
