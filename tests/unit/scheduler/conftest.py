import json
from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., dict[str, Any]]

LARGEST = {
    "cpu": [{"cpu": "16", "memory": "64000Mi", "gres": {"gpu": "2"}}],
    # As agents of before wrote it.
    "debug": {"cpu": "4", "memory": "8000Mi", "gres": {}},
}
AMOUNTS = {"cpu": "40", "memory": "136000Mi", "pods": "100", "nvidia.com/gpu": "4"}


@pytest.fixture(scope="session")
def pod() -> Make:
    """Makes an unbound pod; keywords are fields of its spec."""

    def make(*, name: str = "web", **spec: Any) -> dict[str, Any]:
        return {
            "metadata": {
                "name": name,
                "namespace": "alice",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
            },
            "spec": {
                "schedulerName": "slurmlet-scheduler",
                "tolerations": [{"key": "slurmlet.io/slurm", "operator": "Exists"}],
                **spec,
            },
            "status": {"phase": "Pending"},
        }

    return make


@pytest.fixture(scope="session")
def node() -> Make:
    """Makes the virtual node as the agent registers it; keywords are fields of its spec."""

    def make(*, name: str = "slurm", labels: dict[str, str] | None = None, **spec: Any) -> Any:
        return {
            "metadata": {
                "name": name,
                "resourceVersion": "1",
                "labels": {
                    "type": "virtual-kubelet",
                    "slurmlet.io/cluster": "lab",
                    "kubernetes.io/os": "linux",
                    **(labels or {}),
                },
                "annotations": {"slurmlet.io/largest": json.dumps(LARGEST)},
            },
            "spec": {"taints": [{"key": "slurmlet.io/slurm", "effect": "NoSchedule"}], **spec},
            "status": {"capacity": AMOUNTS, "allocatable": AMOUNTS},
        }

    return make
