"""slurmlet-webhook: serve | bootstrap."""

import argparse
import asyncio
import sys
from pathlib import Path

from slurmlet.common import log
from slurmlet.common.config import ConfigError
from slurmlet.contracts.names import CONFIG_FILE


def main() -> None:
    """Entry point."""
    arguments = _parser().parse_args()
    log.configure()
    try:
        if arguments.command == "serve":
            _serve(arguments)
        else:
            asyncio.run(_bootstrap(arguments, ca=_read_ca(arguments)))
    except ConfigError as error:
        sys.exit(f"slurmlet-webhook: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slurmlet-webhook", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="answer admission reviews")
    serve.add_argument("--config", default=CONFIG_FILE, help="default %(default)s")
    bootstrap = commands.add_parser(
        "bootstrap", help="register the webhook; prints what changed and nothing else"
    )
    bootstrap.add_argument("--kubeconfig", required=True, help="of a cluster administrator")
    bootstrap.add_argument("--url", required=True, help="https://ADDRESS:PORT/mutate")
    bootstrap.add_argument(
        "--ca-file", required=True, help="one or more CAs of the serving certificate, PEM"
    )
    bootstrap.add_argument(
        "--scope",
        choices=("all", "labelled"),
        default="all",
        help="namespaces without a slurmlet.io/admission label: all are ours, or none",
    )
    bootstrap.add_argument("--check", action="store_true", help="change nothing")
    return parser


def _serve(arguments: argparse.Namespace) -> None:
    from slurmlet.webhook.certificate import Certificate  # noqa: PLC0415
    from slurmlet.webhook.config import load  # noqa: PLC0415
    from slurmlet.webhook.server import serve  # noqa: PLC0415
    from slurmlet.webhook.status import listen  # noqa: PLC0415

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
    serve(config, certificate=certificate, plain=plain)


def _read_ca(arguments: argparse.Namespace) -> bytes:
    if not arguments.url.startswith("https://"):
        raise ConfigError(f"--url {arguments.url}: the API server calls only https:// addresses")
    if not Path(arguments.kubeconfig).is_file():
        raise ConfigError(f"--kubeconfig {arguments.kubeconfig}: no such file")
    from slurmlet.webhook.bundle import certificates_of  # noqa: PLC0415

    try:
        return certificates_of(Path(arguments.ca_file).read_bytes())
    except OSError as error:
        raise ConfigError(f"--ca-file {arguments.ca_file}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(
            f"--ca-file {arguments.ca_file}: not one or more certificates in PEM; give the CA of"
            " the serving certificate, or, while it is replaced, the old and the new one"
        ) from None


async def _bootstrap(arguments: argparse.Namespace, *, ca: bytes) -> None:
    # Imported here: the client costs 60 MiB, which the server need not carry.
    from slurmlet.common.kube import Api, ApiError, UnreachableError  # noqa: PLC0415
    from slurmlet.webhook.bootstrap import register  # noqa: PLC0415
    from slurmlet.webhook.registration import configuration  # noqa: PLC0415

    wanted = configuration(url=arguments.url, ca=ca, scope=arguments.scope)
    try:
        async with await Api.from_kubeconfig(arguments.kubeconfig) as api:
            for line in await register(api, wanted, check=arguments.check):
                print(line)
    except (ApiError, UnreachableError) as error:
        raise ConfigError(f"--kubeconfig {arguments.kubeconfig}: {error}") from None


if __name__ == "__main__":
    main()
