"""The table of slurmlet.toml that the webhook reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slurmlet.common.config import ConfigError, read, table
from slurmlet.contracts.names import PKI_DIR, POLICY_FILE, WEBHOOK_METRICS_PORT, WEBHOOK_PORT
from slurmlet.webhook.templates import BUILT_IN, Templates, TemplatesError, with_custom


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """Table `[webhook]`.

    `address` and `port` are where the API server calls, `serving_cert` and `serving_key` what it is
    shown (PEM files). `policy_file` is what the agent publishes of the site. `metrics_address` and
    `metrics_port` serve /metrics, /healthz and /readyz without TLS, to everybody who reaches them.
    `templates` names custom resources that make pods, GROUP/VERSION/RESOURCE → paths of their pod
    templates, such as `spec.groups[*].template`.
    """

    address: str = "0.0.0.0"
    port: int = WEBHOOK_PORT
    serving_cert: str = f"{PKI_DIR}/webhook.crt"
    serving_key: str = f"{PKI_DIR}/webhook.key"
    policy_file: str = POLICY_FILE
    metrics_address: str = "127.0.0.1"
    metrics_port: int = WEBHOOK_METRICS_PORT
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def load(path: str | Path) -> WebhookConfig:
    """The webhook's table; those of others are not looked at.

    Raises:
        slurmlet.common.config.ConfigError: it cannot be used.
    """
    config = table(read(path), "webhook", WebhookConfig, path=path)
    for name in ("port", "metrics_port"):
        if not 0 < getattr(config, name) < 65536:
            raise ConfigError(f"{path}: webhook.{name}: {getattr(config, name)} is no port")
    return config


def templates(path: str | Path | None) -> Templates:
    """The resources that make pods: the built-in ones and, of a file, those that it names.

    Raises:
        slurmlet.common.config.ConfigError: they cannot be used.
    """
    if path is None:
        return BUILT_IN
    try:
        return with_custom(table(read(path), "webhook", WebhookConfig, path=path).templates)
    except TemplatesError as error:
        raise ConfigError(f"{path}: webhook.templates: {error}") from None
