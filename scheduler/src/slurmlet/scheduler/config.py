"""The `[scheduler]` table of slurmlet.toml."""

from dataclasses import dataclass
from pathlib import Path

from slurmlet.common.config import ConfigError, read, table
from slurmlet.contracts.names import PKI_DIR, SCHEDULER_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Who the scheduler is to the API server, and whose pods it binds.

    `kubeconfig` names a file, or is empty: then `server` is the API server's URL, and `ca`,
    `client_cert` and `client_key` are PEM files. `default_scheduler` also binds pods that name
    no scheduler; turn it off where the cluster has a kube-scheduler.
    """

    kubeconfig: str = ""
    server: str = ""
    ca: str = f"{PKI_DIR}/ca.crt"
    client_cert: str = f"{PKI_DIR}/scheduler.crt"
    client_key: str = f"{PKI_DIR}/scheduler.key"
    default_scheduler: bool = True

    @property
    def names(self) -> frozenset[str]:
        """The values of spec.schedulerName that are ours."""
        own = {SCHEDULER_NAME}
        return frozenset(own | {"default-scheduler"} if self.default_scheduler else own)


def load(path: str | Path) -> SchedulerConfig:
    """The table, checked.

    Raises:
        ConfigError: it cannot be used.
    """
    config = table(read(path), "scheduler", SchedulerConfig, path=path)
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


def _need(path: str | Path, key: str, file: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: scheduler.{key}: {file}: {error.strerror}") from None
