"""The tables of slurmlet.toml that the webhook reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slurmlet.common.config import ConfigError, read, table
from slurmlet.contracts.names import PKI_DIR, WEBHOOK_PORT
from slurmlet.contracts.request import RequestPolicy
from slurmlet.webhook.templates import BUILT_IN, Templates, TemplatesError, with_custom


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """Table `[webhook]`: where to listen, and the serving certificate (PEM files).

    `templates` names custom resources that make pods, GROUP/VERSION/RESOURCE → paths of their pod
    templates, such as `spec.groups[*].template`.
    """

    address: str = "0.0.0.0"
    port: int = WEBHOOK_PORT
    serving_cert: str = f"{PKI_DIR}/webhook.crt"
    serving_key: str = f"{PKI_DIR}/webhook.key"
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


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
