"""slurmlet-scheduler: binds pods to the first virtual node that they may go to."""

import argparse
import asyncio
import signal
import sys

from slurmlet.common import log
from slurmlet.common.config import ConfigError
from slurmlet.common.kube import Api, Credentials
from slurmlet.contracts.names import CONFIG_FILE
from slurmlet.scheduler.config import SchedulerConfig, load
from slurmlet.scheduler.loop import Scheduler


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="slurmlet-scheduler", description=__doc__)
    parser.add_argument("--config", default=CONFIG_FILE, help="default %(default)s")
    arguments = parser.parse_args()
    log.configure()
    try:
        config = load(arguments.config)
    except ConfigError as error:
        sys.exit(f"slurmlet-scheduler: {error}")
    asyncio.run(_run(config))


async def _run(config: SchedulerConfig) -> None:
    async with await _connect(config) as api:
        work = asyncio.ensure_future(Scheduler(api, names=config.names).run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, work.cancel)
        try:
            await work
        except asyncio.CancelledError:
            # A bind that was cut off is harmless: the next start sees whether it happened.
            return


async def _connect(config: SchedulerConfig) -> Api:
    if config.kubeconfig:
        return await Api.from_kubeconfig(config.kubeconfig)
    return Api.from_credentials(
        Credentials(
            server=config.server,
            ca_file=config.ca,
            cert_file=config.client_cert,
            key_file=config.client_key,
        )
    )


if __name__ == "__main__":
    main()
