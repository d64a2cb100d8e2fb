"""An agent's configuration for the real API server."""

from pathlib import Path

import pytest

from slurmlet.controlplane.run import ControlPlane, free_ports
from slurmlet.kubelet.config import Kubelet


@pytest.fixture
def config(control_plane: ControlPlane, tmp_path: Path) -> Kubelet:
    pki = control_plane.config.pki_dir
    (port,) = free_ports("127.0.0.1", 1)
    return Kubelet(
        server=control_plane.server,
        address="127.0.0.1",
        port=port,
        ca=f"{pki}/ca.crt",
        client_cert=f"{pki}/node-slurm.crt",
        client_key=f"{pki}/node-slurm.key",
        serving_cert=f"{pki}/kubelet.crt",
        serving_key=f"{pki}/kubelet.key",
        state_dir=str(tmp_path),
        broker_socket=str(tmp_path / "broker.sock"),
    )
