"""`slurmlet-broker`: started by systemd with its socket, or with --socket."""

import argparse
import logging
import os
import pwd
import socket
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from slurmlet.broker.config import ConfigError, load_settings
from slurmlet.broker.server import serve
from slurmlet.contracts.names import BROKER_SOCKET, CONFIG_FILE, IDENTITY_FILE

_FIRST_PASSED = 3
_BACKLOG = 128


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="slurmlet-broker", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--config", default=CONFIG_FILE)
    parser.add_argument("--identity", default=IDENTITY_FILE)
    parser.add_argument(
        "--socket", help=f"make this socket instead of taking systemd's, e.g. {BROKER_SOCKET}"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        settings = load_settings(options.config, identity_file=options.identity)
        listener = (
            make_socket(options.socket, agent_user=settings.broker.agent_user)
            if options.socket
            else passed_socket()
        )
    except (ConfigError, OSError) as error:
        print(f"slurmlet-broker: {error}", file=sys.stderr)
        return 2
    serve(listener, settings)
    return 0


def passed_socket() -> socket.socket:
    """The one socket that systemd passed (sd_listen_fds).

    Raises:
        ConfigError: there is not exactly one.
    """
    count = os.environ.pop("LISTEN_FDS", "0")
    pid = os.environ.pop("LISTEN_PID", "")
    if count != "1" or pid != str(os.getpid()):
        raise ConfigError("no socket from systemd; start slurmlet-broker.socket or give --socket")
    os.set_inheritable(_FIRST_PASSED, False)
    return socket.socket(fileno=_FIRST_PASSED)


def make_socket(path: str, *, agent_user: str) -> socket.socket:
    """A listening socket at `path` that the agent's group may open."""
    made = Path(f"{path}.new")
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(made.lstat().st_mode):
            made.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(made))
    finally:
        os.umask(mask)
    with suppress(KeyError):
        os.chown(made, -1, pwd.getpwnam(agent_user).pw_gid)
        made.chmod(0o660)
    listener.listen(_BACKLOG)
    # Under its name only when it can be connected to; it replaces the one of an earlier run.
    made.rename(path)
    return listener


if __name__ == "__main__":
    sys.exit(main())
