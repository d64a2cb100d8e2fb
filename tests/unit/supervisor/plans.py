"""Plans for tests."""

from typing import Any

from slurmlet.contracts.podproto import Plan, Volume

UID = "0a1b2c3d-0000-4000-8000-000000000001"


def make_plan(
    containers: list[dict[str, Any]],
    *,
    contents: tuple[Volume, ...] = (),
    secrets: dict[str, dict[str, str]] | None = None,
    config_maps: dict[str, dict[str, str]] | None = None,
    pull_secrets: dict[str, dict[str, str]] | None = None,
    **spec: Any,
) -> Plan:
    """A plan of namespace alice, pod web; `contents` are its volumes as the agent sends them."""
    return Plan(
        pod={
            "metadata": {
                "name": "web",
                "namespace": "alice",
                "uid": UID,
                "labels": {"app.kubernetes.io/name": "shop"},
                "annotations": {"note": "hi"},
            },
            "spec": {
                "containers": containers,
                "nodeName": "slurm",
                "serviceAccountName": "default",
                **spec,
            },
        },
        volumes=contents,
        secrets=secrets or {},
        config_maps=config_maps or {},
        pull_secrets=pull_secrets or {},
        pod_ip="10.77.0.11",
        host_ip="10.77.0.12",
        service_env={"KUBERNETES_SERVICE_HOST": "10.77.0.1"},
    )
