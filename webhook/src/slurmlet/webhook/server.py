"""gunicorn with TLS around the application."""

import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from prometheus_client import CollectorRegistry, ProcessCollector

from slurmlet.common import status
from slurmlet.webhook import certificate as certificates
from slurmlet.webhook import policyfile, readiness
from slurmlet.webhook.app import create_app, decisions
from slurmlet.webhook.background import repeat
from slurmlet.webhook.certificate import Certificate
from slurmlet.webhook.config import WebhookConfig
from slurmlet.webhook.metrics import metrics_in
from slurmlet.webhook.policyfile import PolicyFile
from slurmlet.webhook.templates import Templates

THREADS = 16
"""The API server opens as many connections as it has requests under way and keeps 25 of them."""
KEEPALIVE_SECONDS = 120
"""Longer than the API server keeps an idle connection (90 s), else it posts into one that we are
just closing and reports EOF."""
GRACE_SECONDS = 10
"""Requests under way at a stop: the API server gives up on each after 3 s."""


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, app: Flask, settings: dict[str, Any]) -> None:
        self._app = app
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._app


def serve(
    config: WebhookConfig,
    *,
    templates: Templates,
    certificate: Certificate,
    plain: socket.socket,
) -> None:
    """Serve until a signal ends the process, on `plain` what `status` has."""
    log_decisions()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics = metrics_in(registry)
    policy = PolicyFile(config.policy_file)
    metrics.policy_age.set_function(policy.age)
    metrics.not_after.set_function(lambda: certificate.not_after)
    problem = partial(readiness.problem, address=config.address, port=config.port)
    pages = status.pages(registry=registry, ready=problem)

    def renew_certificate() -> None:
        if result := certificate.look():
            metrics.reloads.labels(result=result).inc()

    def begin(_worker: object) -> None:
        # In the worker and before its first request: no thread survives gunicorn's fork, and a
        # worker that replaces another starts with what its parent knew.
        stop = threading.Event()
        repeat(policy.look, seconds=policyfile.POLL_SECONDS, stop=stop)
        repeat(renew_certificate, seconds=certificates.POLL_SECONDS, stop=stop)
        status.serve(plain, pages)

    app = create_app(policy.current, metrics, templates)
    _Server(app, settings(config, context=certificate.context, begin=begin)).run()


def settings(
    config: WebhookConfig,
    *,
    context: Callable[[], ssl.SSLContext],
    begin: Callable[[object], None],
) -> dict[str, Any]:
    """gunicorn's settings. `context` is asked for each connection, `begin` is called in gunicorn's
    worker before that serves."""
    host = f"[{config.address}]" if ":" in config.address else config.address
    return {
        "bind": f"{host}:{config.port}",
        "workers": 1,
        "worker_class": "gthread",
        "threads": THREADS,
        "keepalive": KEEPALIVE_SECONDS,
        "graceful_timeout": GRACE_SECONDS,
        "certfile": config.serving_cert,
        "keyfile": config.serving_key,
        "ssl_context": lambda _config, _default: context(),
        "post_worker_init": begin,
        "forwarded_allow_ips": "",
        "control_socket_disable": True,
        "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,
        "proc_name": "slurmlet-webhook",
    }


def log_decisions() -> None:
    """Bare JSON lines on standard output, apart from what else is logged."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    decisions.handlers = [handler]
    decisions.setLevel(logging.INFO)
    decisions.propagate = False
