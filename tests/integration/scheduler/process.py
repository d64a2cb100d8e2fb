"""The scheduler as the unit starts it, and the pods and the node that it is tried with."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slurmlet.common.kube import MERGE, Api, ApiError, Object
from slurmlet.controlplane.run import ControlPlane

SECONDS = 30
PODS = "/api/v1/namespaces/alice/pods"
EVENTS = "/apis/events.k8s.io/v1/namespaces/alice/events"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/slurmlet-scheduler"
FAST: Mapping[str, object] = {"lease_seconds": 6, "renew_seconds": 4, "retry_seconds": 1}
"""Terms of a lease with which a scheduler that was killed is followed soon."""

USUAL: Mapping[str, object] = {"lease_seconds": 15, "renew_seconds": 10, "retry_seconds": 2}

NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "name": "slurm",
        "labels": {
            "type": "virtual-kubelet",
            "kubernetes.io/os": "linux",
            "slurmlet.io/cluster": "test",
        },
        "annotations": {"slurmlet.io/largest": '{"cpu": {}, "debug": {}}'},
    },
    "spec": {"taints": [{"key": "slurmlet.io/slurm", "effect": "NoSchedule"}]},
}
MAKERS = (
    ("/apis/batch/v1", "cronjobs"),
    ("/apis/batch/v1", "jobs"),
    ("/apis/apps/v1", "deployments"),
    ("/apis/apps/v1", "daemonsets"),
    ("/apis/apps/v1", "statefulsets"),
    ("/apis/apps/v1", "replicasets"),
    ("/api/v1", "pods"),
)
READY: dict[str, Any] = {
    "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Test"}]}
}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "schedulerName": "slurmlet-scheduler",
            "tolerations": [{"key": "slurmlet.io/slurm", "operator": "Exists"}],
            "containers": [{"name": "web", "image": "registry.lab:5000/web:1"}],
            **spec,
        },
    }


async def register(api: Api) -> None:
    """Make the virtual node."""
    await api.create("/api/v1/nodes", NODE)
    await api.patch("/api/v1/nodes/slurm/status", READY, content_type=MERGE)
    # The API server taints every new node, and the controller looks only every few seconds.
    await api.patch("/api/v1/nodes/slurm", {"spec": NODE["spec"]}, content_type=MERGE)


class Scheduler:
    """The process that the unit starts; `start` and `kill` may alternate.

    `server` is where it finds the API server, if not at the plane's own address; `settings` are
    further ones of its table.
    """

    def __init__(
        self, directory: Path, plane: ControlPlane, *, server: str = "", **settings: object
    ) -> None:
        pki = plane.config.pki_dir
        directory.mkdir(exist_ok=True)
        self.log = directory / "log"
        self._config = directory / "slurmlet.toml"
        table: dict[str, object] = {
            "server": server or plane.server,
            "ca": f"{pki}/ca.crt",
            "client_cert": f"{pki}/scheduler.crt",
            "client_key": f"{pki}/scheduler.key",
            "metrics_port": 0,
            **FAST,
            **settings,
        }
        lines = (f"{key} = {json.dumps(value)}" for key, value in table.items())
        self._config.write_text("\n".join(["[scheduler]", *lines]))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "slurmlet.scheduler", "--config", str(self._config)]
        # A fresh log, so that what it says is this process's.
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=SECONDS)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=SECONDS)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def says(self, line: str) -> bool:
        """Whether a line of its log ends so."""
        return self.log.exists() and any(
            said.endswith(line) for said in self.log.read_text().splitlines()
        )


def rounds(name: str, default: int) -> int:
    """A size of a test: `make soak-scheduler` sets larger ones."""
    return int(os.environ.get(name, default))


def wait_for(true: Callable[[], bool], *, seconds: float = SECONDS) -> None:
    """For what has no event to wait for."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def scheduled_events(api: Api) -> list[str]:
    """UIDs of the pods that Scheduled events are about, one for each event."""
    events, _ = await api.list(EVENTS, {"fieldSelector": "reason=Scheduled"})
    return [event["regarding"]["uid"] for event in events]


async def delete_pods(api: Api) -> None:
    """All of them, and first what makes them anew: what other tests left would count, too."""
    for root, kind in MAKERS:
        for item in (await api.list(f"{root}/{kind}"))[0]:
            metadata = item["metadata"]
            path = f"{root}/namespaces/{metadata['namespace']}/{kind}/{metadata['name']}"
            try:
                await api.delete(path, uid=metadata["uid"], grace_seconds=0)
            except ApiError as error:
                # Its owner is gone, or its name is another's by now.
                if error.status not in (404, 409):
                    raise


def node_of(item: Object) -> str:
    return str(item["spec"].get("nodeName", ""))
