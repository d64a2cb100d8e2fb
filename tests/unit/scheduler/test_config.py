from pathlib import Path

import pytest

from slurmlet.common.config import ConfigError
from slurmlet.scheduler.config import load
from slurmlet.scheduler.leader import Terms


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
        ("[scheduler]\nretry_seconds = 0", "scheduler.retry_seconds: 0 is too short"),
        (
            "[scheduler]\nrenew_seconds = 3",
            r"scheduler.renew_seconds: 3 is less than twice retry_seconds \(2\)",
        ),
        (
            "[scheduler]\nlease_seconds = 10",
            r"scheduler.lease_seconds: 10 is not more than renew_seconds \(10\)",
        ),
        ("[scheduler]\nqps = 0", "scheduler.qps: 0 lets nothing pass"),
        ("[scheduler]\nburst = 0", "scheduler.burst: 0 lets nothing pass"),
        (
            "[scheduler]\nwatch_silence_seconds = 120",
            "scheduler.watch_silence_seconds: 120 is not between 1 and 100",
        ),
        ("[scheduler]\nmetrics_port = 70000", "scheduler.metrics_port: 70000 is no port"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(write(tmp_path, text))


def test_the_terms_of_the_lease_are_kube_schedulers(tmp_path: Path) -> None:
    config = load(write(tmp_path, '[scheduler]\nserver = "https://a:6443"\n' + FILES))
    assert config.terms == Terms(duration=15, deadline=10, retry=2)
    assert (config.lease_namespace, config.lease_name) == ("kube-system", "slurmlet-scheduler")
