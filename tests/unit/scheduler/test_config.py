from pathlib import Path

import pytest

from slurmlet.common.config import ConfigError
from slurmlet.scheduler.config import load


def write(directory: Path, text: str) -> Path:
    for name in ("ca.crt", "s.crt", "s.key", "s.conf"):
        (directory / name).write_text("x")
    path = directory / "slurmlet.toml"
    path.write_text(text.replace("DIR", str(directory)))
    return path


FILES = 'ca = "DIR/ca.crt"\nclient_cert = "DIR/s.crt"\nclient_key = "DIR/s.key"\n'


def test_files_or_a_kubeconfig(tmp_path: Path) -> None:
    config = load(write(tmp_path, '[scheduler]\nserver = "https://a:6443"\n' + FILES))
    assert config.names == {"slurmlet-scheduler", "default-scheduler"}
    config = load(
        write(tmp_path, '[scheduler]\nkubeconfig = "DIR/s.conf"\ndefault_scheduler = false')
    )
    assert config.names == {"slurmlet-scheduler"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "scheduler.server: '' is no https URL"),
        ('[scheduler]\nserver = "http://a"', "no https URL"),
        ('[scheduler]\nkubeconfig = "DIR/none"', "scheduler.kubeconfig: .*No such file"),
        (
            '[scheduler]\nserver = "https://a"\n' + FILES.replace("s.key", "none"),
            "scheduler.client_key: .*No such file",
        ),
        ("[scheduler]\nsever = 1", "scheduler.sever: unknown key"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(write(tmp_path, text))
