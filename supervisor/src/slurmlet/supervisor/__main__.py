"""`python -I -m slurmlet.supervisor`: what a pod's job runs."""

import asyncio
import ctypes
import os
import signal
import sys

from slurmlet.contracts.names import CONFIG_FILE
from slurmlet.supervisor import log
from slurmlet.supervisor.config import ConfigError, Settings, load_settings
from slurmlet.supervisor.session import Session

_PR_SET_DUMPABLE = 4
_BAD_CONFIG = 78
_FAILED = 70


def main() -> int:
    # The token is in this process's environment until it is read; nothing of the user's may look.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    log.configure()
    os.umask(0o077)
    # The job's script left us in the release, which may be removed while we run.
    os.chdir("/")
    try:
        settings = load_settings(CONFIG_FILE, os.environ)
        return asyncio.run(_run(settings))
    except (ConfigError, OSError) as error:
        print(f"slurmlet-supervisor: {error}", file=sys.stderr)
        return _BAD_CONFIG
    except Exception:
        log.LOG.exception("the supervisor failed")
        return _FAILED


async def _run(settings: Settings) -> int:
    session = Session(settings, os.environ)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log.forgotten)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, session.terminate)
    loop.add_signal_handler(signal.SIGUSR1, session.warned)
    return await session.run()


if __name__ == "__main__":
    sys.exit(main())
