"""The broker's configuration: what root reads, only from files that root alone can change."""

import os
import stat
import tomllib
from dataclasses import dataclass
from typing import Any

from slurmlet.contracts.codec import CodecError, decode
from slurmlet.contracts.identity import IdentityError, IdentityMap, parse_identity_map
from slurmlet.contracts.site import Cluster, user_dir

MAX_FILE = 4 * 1024 * 1024
"""Bytes of a configuration file: some 30,000 namespaces."""


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names file, field and remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """The `[broker]` table. Timeouts are in seconds.

    `agent_user` is the peer that may ask, besides root. `path` and `lang` are what jobs start with.
    `munge` signs what lets a job have a pod sandbox; empty where no node makes any.
    `submit_timeout` stays below slurmctld's own patience of MessageTimeout plus its retries;
    `concurrency` bounds the requests in flight, others wait in the socket's backlog.
    """

    agent_user: str = "slurmlet"
    sbatch: str = "/usr/bin/sbatch"
    scancel: str = "/usr/bin/scancel"
    squeue: str = "/usr/bin/squeue"
    munge: str = "/usr/bin/munge"
    path: str = "/usr/local/bin:/usr/bin:/bin"
    lang: str = "C.UTF-8"
    request_timeout: float = 5.0
    submit_timeout: float = 30.0
    cancel_timeout: float = 20.0
    read_timeout: float = 20.0
    concurrency: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    cluster: Cluster
    broker: Broker
    identity_file: str


def load_settings(path: str, *, identity_file: str, owner: int = 0) -> Settings:
    """The tables `[cluster]` and `[broker]` of slurmlet.toml.

    Raises:
        ConfigError: the file is missing, not root's alone, or wrong.
    """
    data = _load(path, owner=owner)
    try:
        cluster = decode(Cluster, data.get("cluster", {}), path=f"{path}: cluster")
        broker = decode(Broker, data.get("broker", {}), path=f"{path}: broker")
    except CodecError as error:
        raise ConfigError(str(error)) from None
    try:
        state = user_dir(cluster.state_dir, cluster=cluster.name, user="user", home="/home/user")
    except (LookupError, ValueError):
        state = ""
    if not state.startswith("/"):
        raise ConfigError(
            f"{path}: cluster.state_dir: {cluster.state_dir!r} is no absolute path over"
            " {home}, {user} and {cluster}"
        )
    for name in ("sbatch", "scancel", "squeue"):
        if not getattr(broker, name).startswith("/"):
            raise ConfigError(f"{path}: broker.{name}: give an absolute path")
    if broker.munge and not broker.munge.startswith("/"):
        raise ConfigError(f"{path}: broker.munge: give an absolute path, or none for no sandboxes")
    for name in ("request_timeout", "submit_timeout", "cancel_timeout", "read_timeout"):
        if not 0 < getattr(broker, name) <= 600:
            raise ConfigError(f"{path}: broker.{name}: give seconds between 0 and 600")
    if not 1 <= broker.concurrency <= 256:
        raise ConfigError(f"{path}: broker.concurrency: give a number from 1 to 256")
    return Settings(cluster=cluster, broker=broker, identity_file=identity_file)


def load_identity_map(path: str, *, owner: int = 0) -> IdentityMap:
    """The identity map as it is now; it is read for each request, so nothing stale is used.

    Raises:
        ConfigError: the file is missing, not root's alone, or wrong.
    """
    try:
        return parse_identity_map(_load(path, owner=owner))
    except IdentityError as error:
        raise ConfigError(str(error)) from None


def _load(path: str, *, owner: int) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_trusted(path, owner=owner).decode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _read_trusted(path: str, *, owner: int) -> bytes:
    # O_NONBLOCK: opening a FIFO must not hang.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: not a regular file")
        if status.st_uid != owner or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"{path}: must belong to uid {owner} and not be writable by others;"
                " use chown and chmod 0644"
            )
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise ConfigError(f"{path}: larger than {MAX_FILE} bytes")
    return content
