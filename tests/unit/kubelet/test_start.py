"""What keeps the agent from starting is said in a line."""

from dataclasses import replace
from pathlib import Path

import pytest

from slurmlet.common.config import ConfigError
from slurmlet.controlplane import pki
from slurmlet.controlplane.certificates import Request
from slurmlet.controlplane.store import Store
from slurmlet.kubelet.__main__ import check_certificate
from slurmlet.kubelet.config import Kubelet, virtual_nodes


@pytest.mark.claim("V13")
def test_a_partition_without_a_certificate_is_named_with_the_remedy(tmp_path: Path) -> None:
    request = Request(sans=("127.0.0.1",), nodes=("slurm-cpu",))
    pki.ensure(Store(tmp_path), request, server="https://127.0.0.1:6443")
    config = Kubelet(
        server="https://127.0.0.1:6443",
        address="127.0.0.1",
        nodes="per-partition",
        partitions=("cpu", "debug"),
        ca=str(tmp_path / "ca.crt"),
        client_cert=str(tmp_path / "node-slurm.crt"),
    )
    cpu, debug = virtual_nodes(config)
    check_certificate(config, cpu)
    with pytest.raises(ConfigError) as caught:
        check_certificate(config, debug)
    assert "node slurm-debug: " in str(caught.value)
    assert "No such file" in str(caught.value)
    assert "slurmlet-controlplane pki ensure --node slurm-debug" in str(caught.value)
    with pytest.raises(ConfigError):
        check_certificate(config, replace(cpu, client_key=cpu.client_cert))
