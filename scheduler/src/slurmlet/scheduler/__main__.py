"""slurmlet-scheduler: binds pods to the first virtual node that they may go to."""

import argparse
import asyncio
import signal
import sys
import time

from slurmlet.common import log, status
from slurmlet.common.config import ConfigError
from slurmlet.common.kube import Api, Credentials
from slurmlet.contracts.names import CONFIG_FILE
from slurmlet.scheduler.config import SchedulerConfig, load
from slurmlet.scheduler.health import not_alive, not_ready
from slurmlet.scheduler.leader import LeaseLostError
from slurmlet.scheduler.replica import Replica


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="slurmlet-scheduler", description=__doc__)
    parser.add_argument("--config", default=CONFIG_FILE, help="default %(default)s")
    arguments = parser.parse_args()
    log.configure()
    try:
        config = load(arguments.config)
        asyncio.run(_run(config, path=arguments.config))
    except ConfigError as error:
        sys.exit(f"slurmlet-scheduler: {error}")
    except LeaseLostError as error:
        # To stand by is a fresh start: nothing that a leader knew and did is left.
        sys.exit(f"slurmlet-scheduler: {error}")


async def _run(config: SchedulerConfig, *, path: str) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with await _connect(config) as api, await _connect(config) as lease_api:
        replica = Replica(api, config, lease_api=lease_api)
        if config.metrics_port:
            _serve(replica, config, path=path)
        await replica.run(stopped)


def _serve(replica: Replica, config: SchedulerConfig, *, path: str) -> None:
    scheduler = replica.scheduler

    def alive() -> str:
        return not_alive(scheduler.lost, beat=scheduler.beat, now=time.monotonic())

    def ready() -> str:
        known = scheduler.synced
        return not_ready(scheduler.lost, synced=known, beat=scheduler.beat, now=time.monotonic())

    pages = status.pages(registry=replica.registry, alive=alive, ready=ready)
    try:
        listener = status.listen(config.metrics_address, config.metrics_port)
    except OSError as error:
        raise ConfigError(
            f"{path}: scheduler.metrics_address {config.metrics_address} with"
            f" scheduler.metrics_port {config.metrics_port}: {error.strerror}"
        ) from None
    status.serve(listener, pages)


async def _connect(config: SchedulerConfig) -> Api:
    silence = config.watch_silence_seconds
    if config.kubeconfig:
        return await Api.from_kubeconfig(config.kubeconfig, watch_silence=silence)
    return Api.from_credentials(
        Credentials(
            server=config.server,
            ca_file=config.ca,
            cert_file=config.client_cert,
            key_file=config.client_key,
        ),
        watch_silence=silence,
    )


if __name__ == "__main__":
    main()
