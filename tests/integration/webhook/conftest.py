import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurmlet.controlplane.run import ControlPlane, free_ports

SECONDS = 30
CUSTOM = '"batch.example.org/v1/trainings" = ["spec.groups[*].template"]'
REGISTERED = (
    "mutatingwebhookconfigurations,validatingwebhookconfigurations,"
    "validatingadmissionpolicybindings,validatingadmissionpolicies"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A served and registered webhook; `bootstrap` runs the command with further arguments, which
    win over those that it has."""

    url: str
    log: Path
    bootstrap: Callable[..., str]


@pytest.fixture(scope="module")
def webhook(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Webhook]:
    directory = tmp_path_factory.mktemp("webhook")
    pki = control_plane.config.pki_dir
    (port,) = free_ports("127.0.0.1", 1)
    config, log = directory / "slurmlet.toml", directory / "log"
    config.write_text(
        f'[webhook]\naddress = "127.0.0.1"\nport = {port}\n'
        f'serving_cert = "{pki}/webhook.crt"\nserving_key = "{pki}/webhook.key"\n'
        f"[webhook.templates]\n{CUSTOM}\n"
    )
    url = f"https://127.0.0.1:{port}"

    def bootstrap(*arguments: str) -> str:
        command = [sys.executable, "-m", "slurmlet.webhook", "bootstrap"]
        command += ["--kubeconfig", str(control_plane.admin_conf), "--config", str(config)]
        place = [] if "--service" in arguments else ["--url", url]
        command += [*place, "--ca-file", f"{pki}/ca.crt", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "slurmlet.webhook", "serve", "--config", str(config)],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while "Listening at" not in log.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        assert "created" in bootstrap()
        yield Webhook(url=url, log=log, bootstrap=bootstrap)
    finally:
        # Left behind, it would refuse the pods and Services of every later test.
        kubectl = str(control_plane.config.bin_dir / "kubectl")
        delete = [kubectl, f"--kubeconfig={control_plane.admin_conf}", "delete", REGISTERED]
        subprocess.run(
            [*delete, "-l", "app.kubernetes.io/managed-by=slurmlet"], check=True, timeout=SECONDS
        )
        server.terminate()
        server.wait(timeout=SECONDS)
