"""slurmlet-webhook: serve | bootstrap."""

import argparse
import asyncio
import re
import sys
from pathlib import Path

from slurmlet.common import log
from slurmlet.common.config import ConfigError
from slurmlet.contracts.names import CONFIG_FILE, NODE_NAME
from slurmlet.webhook.config import load, templates
from slurmlet.webhook.registration import Service, Site, objects


def main() -> None:
    """Entry point."""
    arguments = parser().parse_args()
    log.configure()
    try:
        if arguments.command == "serve":
            _serve(arguments)
        else:
            asyncio.run(_bootstrap(arguments, _site(arguments)))
    except ConfigError as error:
        sys.exit(f"slurmlet-webhook: {error}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="slurmlet-webhook", description=__doc__)
    commands = found.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="answer admission reviews")
    serve.add_argument("--config", default=CONFIG_FILE, help="default %(default)s")
    bootstrap = commands.add_parser(
        "bootstrap",
        help="register the webhook and the policies; prints what changed and nothing else",
    )
    bootstrap.add_argument("--kubeconfig", required=True, help="of a cluster administrator")
    place = bootstrap.add_mutually_exclusive_group(required=True)
    place.add_argument("--url", help="https://ADDRESS:PORT of the webhook")
    place.add_argument("--service", help="NAMESPACE/NAME[:PORT] of a Service in front of it")
    bootstrap.add_argument(
        "--ca-file", required=True, help="one or more CAs of the serving certificate, PEM"
    )
    bootstrap.add_argument(
        "--scope",
        choices=("all", "labelled"),
        default="all",
        help="namespaces without a slurmlet.io/admission label: all are ours, or none",
    )
    bootstrap.add_argument(
        "--node", action="append", help=f"name of a virtual node; again for more; {NODE_NAME}"
    )
    bootstrap.add_argument(
        "--config", help="slurmlet.toml, if its table [webhook] names custom resources"
    )
    bootstrap.add_argument(
        "--services",
        choices=("webhook", "policy"),
        default="webhook",
        help="who makes Services headless: the webhook, or a policy that the API server evaluates"
        " itself (Kubernetes 1.36 and later)",
    )
    bootstrap.add_argument(
        "--no-pod-network",
        action="store_true",
        help="with --services policy: pods have no network of their own, which it cannot know",
    )
    bootstrap.add_argument("--check", action="store_true", help="change nothing")
    return found


def _serve(arguments: argparse.Namespace) -> None:
    from slurmlet.common.status import listen  # noqa: PLC0415
    from slurmlet.webhook.certificate import Certificate  # noqa: PLC0415
    from slurmlet.webhook.server import serve  # noqa: PLC0415

    config = load(arguments.config)
    try:
        certificate = Certificate(cert=config.serving_cert, key=config.serving_key)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{arguments.config}: webhook.serving_cert {config.serving_cert} with"
            f" webhook.serving_key {config.serving_key}: {why}"
        ) from None
    try:
        plain = listen(config.metrics_address, config.metrics_port)
    except OSError as error:
        raise ConfigError(
            f"{arguments.config}: webhook.metrics_address {config.metrics_address} with"
            f" webhook.metrics_port {config.metrics_port}: {error.strerror}"
        ) from None
    serve(config, templates=templates(arguments.config), certificate=certificate, plain=plain)


async def _bootstrap(arguments: argparse.Namespace, site: Site) -> None:
    # Imported here: the client costs 60 MiB, which the server need not carry.
    from slurmlet.common.kube import Api, ApiError, UnreachableError  # noqa: PLC0415
    from slurmlet.webhook.bootstrap import UnsupportedError, register  # noqa: PLC0415

    try:
        async with await Api.from_kubeconfig(arguments.kubeconfig) as api:
            for line in await register(api, objects(site), check=arguments.check):
                print(line)
    except UnsupportedError as error:
        raise ConfigError(str(error)) from None
    except (ApiError, UnreachableError) as error:
        raise ConfigError(f"--kubeconfig {arguments.kubeconfig}: {error}") from None


def _site(arguments: argparse.Namespace) -> Site:
    if not Path(arguments.kubeconfig).is_file():
        raise ConfigError(f"--kubeconfig {arguments.kubeconfig}: no such file")
    return Site(
        at=_url(arguments.url) if arguments.url else _service(arguments.service),
        ca=_read_ca(arguments.ca_file),
        scope=arguments.scope,
        nodes=tuple(arguments.node or [NODE_NAME]),
        templates=templates(arguments.config),
        services=arguments.services,
        pod_network=False if arguments.no_pod_network else None,
    )


def _read_ca(path: str) -> bytes:
    from slurmlet.webhook.bundle import certificates_of  # noqa: PLC0415

    try:
        return certificates_of(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"--ca-file {path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(
            f"--ca-file {path}: not one or more certificates in PEM; give the CA of the serving"
            " certificate, or, while it is replaced, the old and the new one"
        ) from None


def _url(text: str) -> str:
    if not re.fullmatch(r"https://[^/?#]+/?", text):
        raise ConfigError(
            f"--url {text}: use https://ADDRESS:PORT and no path; the API server calls no other"
        )
    return text.rstrip("/")


def _service(text: str) -> Service:
    match = re.fullmatch(r"([a-z0-9-]{1,63})/([a-z0-9-]{1,63})(?::([0-9]{1,5}))?", text)
    if not match:
        raise ConfigError(f"--service {text}: use NAMESPACE/NAME or NAMESPACE/NAME:PORT")
    return Service(namespace=match[1], name=match[2], port=int(match[3] or 443))


if __name__ == "__main__":
    main()
