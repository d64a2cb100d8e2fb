"""slurmlet-webhook: serve | bootstrap."""

import argparse
import asyncio
import ssl
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
    bootstrap.add_argument("--ca-file", required=True, help="CA of the serving certificate, PEM")
    bootstrap.add_argument(
        "--scope",
        choices=("all", "labelled"),
        default="all",
        help="namespaces without a slurmlet.io/admission label: all are ours, or none",
    )
    bootstrap.add_argument("--check", action="store_true", help="change nothing")
    return parser


def _serve(arguments: argparse.Namespace) -> None:
    from slurmlet.webhook.app import create_app  # noqa: PLC0415
    from slurmlet.webhook.config import load, templates  # noqa: PLC0415
    from slurmlet.webhook.server import serve  # noqa: PLC0415

    config, policy = load(arguments.config)
    try:
        serve(config, create_app(policy, templates(arguments.config)))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{arguments.config}: webhook.serving_cert {config.serving_cert} with"
            f" webhook.serving_key {config.serving_key}: {error.strerror or error}"
        ) from None


def _read_ca(arguments: argparse.Namespace) -> bytes:
    if not arguments.url.startswith("https://"):
        raise ConfigError(f"--url {arguments.url}: the API server calls only https:// addresses")
    if not Path(arguments.kubeconfig).is_file():
        raise ConfigError(f"--kubeconfig {arguments.kubeconfig}: no such file")
    try:
        return Path(arguments.ca_file).read_bytes()
    except OSError as error:
        raise ConfigError(f"--ca-file {arguments.ca_file}: {error.strerror}") from None


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
