"""The tables of slurmlet.toml that the webhook reads."""

from dataclasses import dataclass
from pathlib import Path

from slurmlet.common.config import read, table
from slurmlet.contracts.names import PKI_DIR, WEBHOOK_PORT
from slurmlet.contracts.request import RequestPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """Table `[webhook]`: where to listen, and the serving certificate (PEM files)."""

    address: str = "0.0.0.0"
    port: int = WEBHOOK_PORT
    serving_cert: str = f"{PKI_DIR}/webhook.crt"
    serving_key: str = f"{PKI_DIR}/webhook.key"


def load(path: str | Path) -> tuple[WebhookConfig, RequestPolicy]:
    """The webhook's own table and `[request]`, the site's part of pod → job.

    Raises:
        slurmlet.common.config.ConfigError: a table cannot be used.
    """
    tables = read(path)
    return (
        table(tables, "webhook", WebhookConfig, path=path),
        table(tables, "request", RequestPolicy, path=path),
    )
