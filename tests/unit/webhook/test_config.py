from pathlib import Path

import pytest

from slurmlet.common.config import ConfigError
from slurmlet.webhook.config import load


def write(directory: Path, text: str) -> Path:
    path = directory / "slurmlet.toml"
    path.write_text(text)
    return path


def test_both_tables_are_read_and_those_of_others_ignored(tmp_path: Path) -> None:
    text = '[webhook]\nport = 1\n[request]\ndefault_cpus = 2\noptions = {qos = "n"}\n[kubelet]\nx=1'
    config, policy = load(write(tmp_path, text))
    assert config.port == 1
    assert config.serving_cert == "/etc/slurmlet/pki/webhook.crt"
    assert policy.default_cpus == 2
    assert policy.options == {"qos": "n"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[webhook]\nprot = 1", "webhook.prot: unknown key"),
        ('[webhook]\nport = "x"', "webhook.port: expected int"),
        ("[request]\ndefault_cpu = 1", "request.default_cpu: unknown key"),
        ("[webhook", "not TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(write(tmp_path, text))
