from pathlib import Path

import pytest

from slurmlet.common.config import ConfigError
from slurmlet.webhook.config import load


def write(directory: Path, text: str) -> Path:
    path = directory / "slurmlet.toml"
    path.write_text(text)
    return path


def test_the_table_is_read_and_those_of_others_ignored(tmp_path: Path) -> None:
    config = load(write(tmp_path, "[webhook]\nport = 1\n[request]\nx = 2\n[kubelet]\nx = 1"))
    assert config.port == 1
    assert config.serving_cert == "/etc/slurmlet/pki/webhook.crt"
    assert config.policy_file == "/run/slurmlet-kubelet/policy.json"
    assert (config.metrics_address, config.metrics_port) == ("127.0.0.1", 10280)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[webhook]\nprot = 1", "webhook.prot: unknown key"),
        ('[webhook]\nport = "x"', "webhook.port: expected int"),
        ("[webhook]\nmetrics_port = 0", "webhook.metrics_port: 0 is no port"),
        ("[webhook]\nport = 65536", "webhook.port: 65536 is no port"),
        ("[webhook", "not TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(write(tmp_path, text))
