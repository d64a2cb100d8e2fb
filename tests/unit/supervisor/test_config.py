"""The supervisor's configuration and its job's environment."""

from pathlib import Path

import pytest

from slurmlet.supervisor.config import ConfigError, load_settings

from .plans import UID

ENVIRONMENT = {
    "HOME": "/home/alice",
    "USER": "alice",
    "SLURM_JOB_ID": "42",
    "SLURMD_NODENAME": "c1",
    "SLURMLET_AGENT": "10.77.0.1:10260",
    "SLURMLET_POD_UID": UID,
    "SLURMLET_TOKEN": "5" * 64,
}
CLUSTER = '[cluster]\nname = "lab"\n'


def write(directory: Path, text: str) -> str:
    path = directory / "slurmlet.toml"
    path.write_text(text)
    return str(path)


def test_the_job_and_the_directories(tmp_path: Path) -> None:
    environment = dict(ENVIRONMENT)
    settings = load_settings(write(tmp_path, CLUSTER), environment)
    job = settings.job
    assert (job.job_id, job.host, job.agent_host, job.agent_port) == (42, "c1", "10.77.0.1", 10260)
    assert (job.started, job.ends) == (0, 0)
    assert str(settings.state_dir) == "/home/alice/.slurmlet/lab"
    assert str(settings.image_cache) == "/home/alice/.cache/slurmlet/images"


def test_when_the_job_started_and_ends(tmp_path: Path) -> None:
    times = {"SLURM_JOB_START_TIME": "1795373286", "SLURM_JOB_END_TIME": "1795376886"}
    job = load_settings(write(tmp_path, CLUSTER), ENVIRONMENT | times).job
    assert (job.started, job.ends) == (1795373286, 1795376886)


def test_the_token_leaves_the_environment_and_is_not_shown(tmp_path: Path) -> None:
    environment = dict(ENVIRONMENT)
    settings = load_settings(write(tmp_path, CLUSTER), environment)
    assert settings.job.token == "5" * 64
    assert "SLURMLET_TOKEN" not in environment
    assert settings.job.token not in repr(settings)


def test_an_agent_on_ipv6(tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"SLURMLET_AGENT": "[fd00::1]:10260"}
    assert load_settings(write(tmp_path, CLUSTER), environment).job.agent_host == "fd00::1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[cluster", "slurmlet.toml"),
        ("", "cluster.name: missing"),
        (CLUSTER + "[supervisor]\ncolour = 1", "supervisor.colour: unknown key"),
        (CLUSTER + '[supervisor]\nengines = ["docker"]', "supervisor.engines"),
        (CLUSTER + "[supervisor]\nengines = []", "supervisor.engines"),
        (CLUSTER + '[supervisor]\nengines = ["crun"]\ndefault_engine = "apptainer"', "not in eng"),
        (CLUSTER + '[supervisor]\nscratch_dir = "tmp"', "absolute path"),
        (CLUSTER + '[supervisor]\nscratch_dir = "/a:b"', "may not contain"),
        (CLUSTER + "[supervisor]\nlog_max_mib = 0", "log_max_mib: give a number"),
        (CLUSTER + "[supervisor]\nkeep_logs_days = 0", "keep_logs_days: give a number"),
        (CLUSTER + 'state_dir = "{x}"', "no template"),
    ],
)
def test_wrong_configuration_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_settings(write(tmp_path, text), dict(ENVIRONMENT))


@pytest.mark.parametrize("name", ["HOME", "USER", "SLURM_JOB_ID", "SLURMLET_AGENT"])
def test_outside_a_job_it_says_so(tmp_path: Path, name: str) -> None:
    environment = {key: value for key, value in ENVIRONMENT.items() if key != name}
    with pytest.raises(ConfigError, match="environment"):
        load_settings(write(tmp_path, CLUSTER), environment)
