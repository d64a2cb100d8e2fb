"""The `[scheduler]` table of slurmlet.toml."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slurmlet.common.config import ConfigError, read, table
from slurmlet.contracts.names import PKI_DIR, SCHEDULER_METRICS_PORT, SCHEDULER_NAME
from slurmlet.scheduler.leader import Terms

SHORTEST_WATCH_SECONDS, LONGEST_WATCH_SECONDS = 1, 100
"""A watch that is lost must be noticed, and the list made, within two minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Who the scheduler is to the API server, and whose pods it binds.

    `kubeconfig` names a file, or is empty: then `server` is the API server's URL, and `ca`,
    `client_cert` and `client_key` are PEM files. `default_scheduler` also binds pods that name
    no scheduler; turn it off where the cluster has a kube-scheduler.

    With `leader_elect` several schedulers may run, of which one binds: it holds the lease
    `lease_namespace`/`lease_name` for `lease_seconds`, gives up when it could not renew it for
    `renew_seconds`, and all try each `retry_seconds`. `qps` requests a second, and `burst` at once,
    go out for bindings, and as many for events. `watch_silence_seconds` is after how long without a
    word a watch is lost; the API server says something each minute. `metrics_address` and
    `metrics_port` serve /metrics, /healthz and /readyz without TLS, to everybody who reaches them;
    with port 0 nothing is served.
    """

    kubeconfig: str = ""
    server: str = ""
    ca: str = f"{PKI_DIR}/ca.crt"
    client_cert: str = f"{PKI_DIR}/scheduler.crt"
    client_key: str = f"{PKI_DIR}/scheduler.key"
    default_scheduler: bool = True
    leader_elect: bool = True
    lease_namespace: str = "kube-system"
    lease_name: str = SCHEDULER_NAME
    lease_seconds: int = 15
    renew_seconds: int = 10
    retry_seconds: int = 2
    # Above kube-scheduler's 50 and 100: the API server's own priority and fairness protects it, and
    # a burst of thousands of pods should not wait for minutes.
    qps: int = 200
    burst: int = 400
    watch_silence_seconds: int = 90
    metrics_address: str = "127.0.0.1"
    metrics_port: int = SCHEDULER_METRICS_PORT

    @property
    def names(self) -> frozenset[str]:
        """The values of spec.schedulerName that are ours."""
        own = {SCHEDULER_NAME}
        return frozenset(own | {"default-scheduler"} if self.default_scheduler else own)

    @property
    def terms(self) -> Terms:
        """Those of the lease."""
        return Terms(
            duration=self.lease_seconds, deadline=self.renew_seconds, retry=self.retry_seconds
        )


def load(path: str | Path) -> SchedulerConfig:
    """The table, checked.

    Raises:
        ConfigError: it cannot be used.
    """
    config = table(read(path), "scheduler", SchedulerConfig, path=path)
    for problem in _problems(config):
        raise ConfigError(f"{path}: scheduler.{problem}")
    if config.kubeconfig:
        _need(path, "kubeconfig", config.kubeconfig)
        return config
    if not config.server.startswith("https://"):
        raise ConfigError(
            f"{path}: scheduler.server: {config.server!r} is no https URL;"
            " set it or scheduler.kubeconfig"
        )
    _need(path, "ca", config.ca)
    _need(path, "client_cert", config.client_cert)
    _need(path, "client_key", config.client_key)
    return config


def _problems(config: SchedulerConfig) -> Iterator[str]:
    if config.retry_seconds < 1:
        yield f"retry_seconds: {config.retry_seconds} is too short; use 1 or more"
    # As client-go: a second chance to renew, and a pause in which nobody leads.
    if config.renew_seconds < 2 * config.retry_seconds:
        yield (
            f"renew_seconds: {config.renew_seconds} is less than twice retry_seconds"
            f" ({config.retry_seconds}); use more"
        )
    if config.lease_seconds <= config.renew_seconds:
        yield (
            f"lease_seconds: {config.lease_seconds} is not more than renew_seconds"
            f" ({config.renew_seconds}); use more"
        )
    for key in ("qps", "burst"):
        if getattr(config, key) < 1:
            yield f"{key}: {getattr(config, key)} lets nothing pass; use 1 or more"
    if not SHORTEST_WATCH_SECONDS <= config.watch_silence_seconds <= LONGEST_WATCH_SECONDS:
        yield (
            f"watch_silence_seconds: {config.watch_silence_seconds} is not between"
            f" {SHORTEST_WATCH_SECONDS} and {LONGEST_WATCH_SECONDS}"
        )
    if not 0 <= config.metrics_port < 65536:
        yield f"metrics_port: {config.metrics_port} is no port; use 0 to serve nothing"


def _need(path: str | Path, key: str, file: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: scheduler.{key}: {file}: {error.strerror}") from None
