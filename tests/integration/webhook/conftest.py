import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.webhook.writers import KUBECTL, Helm, Kubectl, Writer

from slurmlet.controlplane.run import ControlPlane, free_ports

SECONDS = 30
CUSTOM = '"batch.example.org/v1/trainings" = ["spec.groups[*].template", "head-node.pod"]'
REGISTERED = (
    "mutatingwebhookconfigurations,validatingwebhookconfigurations,"
    "mutatingadmissionpolicybindings,mutatingadmissionpolicies,"
    "validatingadmissionpolicybindings,validatingadmissionpolicies"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A served and registered webhook; `bootstrap` runs the command with further arguments, which
    win over those that it has. `cert` and `key` are what it serves with, PEM. `policy` is where the
    agent would publish; nothing is there at first."""

    url: str
    log: Path
    cert: Path
    key: Path
    policy: Path
    bootstrap: Callable[..., str]


@pytest.fixture(scope="module")
def webhook(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Webhook]:
    directory = tmp_path_factory.mktemp("webhook")
    pki = control_plane.config.pki_dir
    port, metrics_port = free_ports("127.0.0.1", 2)
    config, log, policy = (directory / name for name in ("slurmlet.toml", "log", "policy.json"))
    cert, key = (Path(shutil.copy(pki / f"webhook.{kind}", directory)) for kind in ("crt", "key"))
    config.write_text(
        f'[webhook]\naddress = "127.0.0.1"\nport = {port}\n'
        f'serving_cert = "{cert}"\nserving_key = "{key}"\n'
        f'policy_file = "{policy}"\nmetrics_port = {metrics_port}\n'
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
        yield Webhook(url=url, log=log, cert=cert, key=key, policy=policy, bootstrap=bootstrap)
    finally:
        # Left behind, it would refuse the pods and Services of every later test.
        kubectl = str(control_plane.config.bin_dir / "kubectl")
        delete = [kubectl, f"--kubeconfig={control_plane.admin_conf}", "delete", REGISTERED]
        subprocess.run(
            [*delete, "-l", "app.kubernetes.io/managed-by=slurmlet"], check=True, timeout=SECONDS
        )
        server.terminate()
        server.wait(timeout=SECONDS)


@pytest.fixture
def make_writer(
    control_plane: ControlPlane, kubectl: Callable[..., str], tmp_path: Path
) -> Callable[[str, str], Writer]:
    """make_writer(KIND, MANAGER): who writes as alice under a name of its own."""

    def make(kind: str, manager: str) -> Writer:
        if kind in KUBECTL:
            return Kubectl(run=kubectl, kind=kind, manager=manager)
        return Helm(
            kind=kind,
            kubeconfig=control_plane.user_conf("alice"),
            directory=tmp_path / manager,
            release=manager,
        )

    return make
