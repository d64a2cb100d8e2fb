"""The table of slurmlet.toml that the webhook reads."""

from dataclasses import dataclass
from pathlib import Path

from slurmlet.common.config import read, table
from slurmlet.contracts.names import PKI_DIR, POLICY_FILE, WEBHOOK_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """Table `[webhook]`.

    `address` and `port` are where the API server calls, `serving_cert` and `serving_key` what it is
    shown (PEM files). `policy_file` is what the agent publishes of the site.
    """

    address: str = "0.0.0.0"
    port: int = WEBHOOK_PORT
    serving_cert: str = f"{PKI_DIR}/webhook.crt"
    serving_key: str = f"{PKI_DIR}/webhook.key"
    policy_file: str = POLICY_FILE


def load(path: str | Path) -> WebhookConfig:
    """The webhook's table; those of others are not looked at.

    Raises:
        slurmlet.common.config.ConfigError: it cannot be used.
    """
    return table(read(path), "webhook", WebhookConfig, path=path)
