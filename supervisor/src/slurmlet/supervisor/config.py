"""The supervisor's configuration and what its job's environment tells it."""

import socket
import tomllib
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from slurmlet.contracts.codec import CodecError, decode
from slurmlet.contracts.names import ENV_AGENT, ENV_POD_UID, ENV_TOKEN, PKI_DIR
from slurmlet.contracts.site import Cluster, user_dir

ENGINES = ("crun", "apptainer")


class ConfigError(ValueError):
    """A configuration or a job environment that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervisor:
    """The `[supervisor]` table.

    `engines` are those that pods may choose; `scratch_dir` holds writable layers and emptyDir
    volumes, so it must be local to the node; `insecure_registries` (HOST[:PORT]) are spoken to
    without TLS. `pull_timeout` is in seconds, `log_max_mib` bounds the log of one container
    start, of which two are kept; logs of pods that ended more than `keep_logs_days` ago are removed
    by the user's next pod.
    """

    engines: tuple[str, ...] = ENGINES
    default_engine: str = "crun"
    scratch_dir: str = "/tmp"
    insecure_registries: tuple[str, ...] = ()
    ca_file: str = f"{PKI_DIR}/ca.crt"
    pull_timeout: float = 1800.0
    log_max_mib: int = 64
    keep_logs_days: float = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The job that this supervisor runs in. `token` is secret; `started` and `ends` are seconds
    since the epoch, 0 where Slurm does not say."""

    job_id: int
    host: str
    agent_host: str
    agent_port: int
    pod_uid: str
    token: str = field(repr=False)
    started: int = 0
    ends: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    supervisor: Supervisor
    cluster: Cluster
    job: Job
    state_dir: Path
    image_cache: Path


def load_settings(path: str, environment: MutableMapping[str, str]) -> Settings:
    """The tables `[cluster]` and `[supervisor]`, and the job; the token leaves `environment`.

    Raises:
        ConfigError: a file, key or variable is missing or wrong; the message names it.
    """
    try:
        data = tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        cluster = decode(Cluster, data.get("cluster", {}), path=f"{path}: cluster")
        supervisor = decode(Supervisor, data.get("supervisor", {}), path=f"{path}: supervisor")
    except CodecError as error:
        raise ConfigError(str(error)) from None
    _check(supervisor, path=path)
    home = environment.get("HOME", "")
    user = environment.get("USER", "")
    if not home.startswith("/") or not user:
        raise ConfigError("HOME and USER must be set in the job's environment")
    try:
        directories = [
            Path(user_dir(template, cluster=cluster.name, user=user, home=home))
            for template in (cluster.state_dir, cluster.image_cache)
        ]
    except (LookupError, ValueError):
        raise ConfigError(f"{path}: cluster: state_dir or image_cache is no template") from None
    # Mount options separate their values by these, and no quoting works in all kernels.
    if set(str(directories[1])) & set(":,\\") or set(supervisor.scratch_dir) & set(":,\\"):
        raise ConfigError(f"{path}: image_cache and scratch_dir may not contain ':', ',' or '\\'")
    return Settings(
        supervisor=supervisor,
        cluster=cluster,
        job=read_job(environment),
        state_dir=directories[0],
        image_cache=directories[1],
    )


def read_job(environment: MutableMapping[str, str]) -> Job:
    """The job's facts; the token is removed from `environment`.

    Raises:
        ConfigError: a variable is missing or wrong.
    """
    token = environment.pop(ENV_TOKEN, "")
    try:
        host, _, port = environment[ENV_AGENT].rpartition(":")
        return Job(
            job_id=int(environment["SLURM_JOB_ID"]),
            host=environment.get("SLURMD_NODENAME") or socket.gethostname(),
            agent_host=host.removeprefix("[").removesuffix("]"),
            agent_port=int(port),
            pod_uid=environment[ENV_POD_UID],
            token=token,
            started=int(environment.get("SLURM_JOB_START_TIME") or 0),
            ends=int(environment.get("SLURM_JOB_END_TIME") or 0),
        )
    except (KeyError, ValueError) as error:
        raise ConfigError(f"not the environment of a pod's job: {error}") from None


def _check(supervisor: Supervisor, *, path: str) -> None:
    unknown = [name for name in supervisor.engines if name not in ENGINES]
    if unknown or not supervisor.engines:
        raise ConfigError(f"{path}: supervisor.engines: {unknown}; known are {', '.join(ENGINES)}")
    if supervisor.default_engine not in supervisor.engines:
        raise ConfigError(
            f"{path}: supervisor.default_engine: {supervisor.default_engine!r} is not in engines"
        )
    if not supervisor.scratch_dir.startswith("/"):
        raise ConfigError(f"{path}: supervisor.scratch_dir: give an absolute path")
    for name, low, high in (
        ("log_max_mib", 1, 65536),
        ("pull_timeout", 1, 86400),
        ("keep_logs_days", 0.01, 36500),
    ):
        if not low <= getattr(supervisor, name) <= high:
            raise ConfigError(f"{path}: supervisor.{name}: give a number from {low} to {high}")
