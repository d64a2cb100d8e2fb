"""Starts the agent's parts and keeps them in one fate: whatever fails ends the process, and systemd
starts it anew. Jobs do not depend on it."""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import ssl
import sys
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path

from slurmlet.common import log as logs
from slurmlet.common import tls
from slurmlet.common.config import ConfigError, read, table
from slurmlet.common.kube import Api, Credentials
from slurmlet.contracts.names import CONFIG_FILE
from slurmlet.contracts.site import Cluster
from slurmlet.kubelet import config as configs
from slurmlet.kubelet import lock
from slurmlet.kubelet.agent import Agent
from slurmlet.kubelet.config import Kubelet, VirtualNode
from slurmlet.kubelet.nodeservice import Connection

log = logging.getLogger("slurmlet.kubelet")

KEY_BYTES = 32


def main() -> int:
    """Run until SIGTERM; the result is the exit code."""
    logs.configure()
    parser = argparse.ArgumentParser(
        prog="slurmlet-kubelet", description="The agent of the virtual nodes of a cluster."
    )
    parser.add_argument("--config", default=CONFIG_FILE, metavar="FILE")
    path = parser.parse_args().config
    try:
        tables = read(path)
        config = table(tables, "kubelet", Kubelet, path=path)
        cluster = table(tables, "cluster", Cluster, path=path)
        found = configs.problems(config)
        if found:
            raise ConfigError("\n".join(f"{path}: {problem}" for problem in found))
        for node in configs.virtual_nodes(config):
            check_certificate(config, node)
        key = agent_key(Path(config.state_dir))
        # Before anything is asked of anybody: two would submit every pod twice.
        lock.hold(Path(config.state_dir))
        contexts = (
            tls.server_context(
                cert=config.serving_cert, key=config.serving_key, client_ca=config.ca
            ),
            tls.server_context(cert=config.serving_cert, key=config.serving_key),
        )
    except (ConfigError, OSError) as error:
        print(f"slurmlet-kubelet: {error}", file=sys.stderr)
        return 1
    try:
        asyncio.run(_run(config, cluster, key, contexts))
    except* _StopError:
        log.info("stopped; jobs go on")
    return 0


def check_certificate(config: Kubelet, node: VirtualNode) -> None:
    """Raises ConfigError if the agent cannot be this node to the API server."""
    try:
        tls.check_client(cert=node.client_cert, key=node.client_key, server_ca=config.ca)
    except OSError as error:
        raise ConfigError(
            f"node {node.name}: {node.client_cert} and its key: {error.strerror or error}; make"
            f" them with slurmlet-controlplane pki ensure --node {node.name}"
        ) from None


def agent_key(state_dir: Path) -> bytes:
    """The secret that job tokens are made with, made at the first start.

    Raises:
        OSError: the directory cannot be written.
        ConfigError: the file does not hold a key.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state_dir / "agent.key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise ConfigError(
                f"{path}: not {KEY_BYTES} bytes; remove it when no pod runs"
            ) from None
        return key
    key = secrets.token_bytes(KEY_BYTES)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key


class _StopError(Exception):
    """SIGTERM or SIGINT arrived."""


async def _run(
    config: Kubelet, cluster: Cluster, key: bytes, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        connections = [
            await _connect(stack, config, node) for node in configs.virtual_nodes(config)
        ]
        agent = Agent(
            connections, config=config, cluster=cluster, key=key, release=version("slurmlet")
        )
        async with asyncio.TaskGroup() as group:
            for part in agent.parts(api_context=contexts[0], channel_context=contexts[1]):
                group.create_task(part)
            group.create_task(_stop_at(stopped))


async def _connect(stack: AsyncExitStack, config: Kubelet, node: VirtualNode) -> Connection:
    credentials = Credentials(
        server=config.server,
        ca_file=config.ca,
        cert_file=node.client_cert,
        key_file=node.client_key,
    )
    return Connection(
        node=node,
        api=await stack.enter_async_context(Api.from_credentials(credentials)),
        watching=await stack.enter_async_context(Api.from_credentials(credentials)),
    )


async def _stop_at(stopped: asyncio.Event) -> None:
    await stopped.wait()
    raise _StopError


if __name__ == "__main__":
    sys.exit(main())
