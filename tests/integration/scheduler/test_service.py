"""What the scheduler tells those who look after it, and what it takes."""

import asyncio
import http.client
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from tests.integration.scheduler.process import EVENTS, NODE, PODS, Scheduler, pod

from slurmlet.common.kube import Api
from slurmlet.controlplane.run import ControlPlane, free_ports

SECONDS = 60
KNOWN = 10_000
MOST_MIB = 150


def page(port: int, path: str) -> tuple[int, str]:
    """Status and text; 0 while nobody listens."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", path)
        except ConnectionRefusedError:
            return 0, ""
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


async def until(port: int, path: str, *, status: int, text: str = "") -> str:
    async with asyncio.timeout(SECONDS):
        while True:
            found = await asyncio.to_thread(page, port, path)
            if found[0] == status and text in found[1]:
                return found[1]
            await asyncio.sleep(0.05)


@pytest.mark.claim("K55")
@pytest.mark.claim("K56")
async def test_health_readiness_and_metrics(
    control_plane: ControlPlane,
    admin: Api,
    virtual_node: None,
    tmp_path: Path,
    schedulers: list[Scheduler],
) -> None:
    (port,) = free_ports("127.0.0.1", 1)
    scheduler = Scheduler(tmp_path / "s", control_plane, metrics_port=port)
    schedulers.append(scheduler)
    scheduler.start()
    await until(port, "/readyz", status=200)
    await admin.create(PODS, pod("web"))
    await admin.create(PODS, pod("unfit", nodeSelector={"slurmlet.io/partition": "gpu"}))
    await admin.create(PODS, pod("gated", schedulingGates=[{"name": "example.org/quota"}]))
    profile = 'profile="slurmlet-scheduler"'
    for result in ("scheduled", "unschedulable"):
        line = f'scheduler_schedule_attempts_total{{{profile},result="{result}"}} 1.0'
        await until(port, "/metrics", status=200, text=line)
    await until(port, "/metrics", status=200, text='pending_pods{queue="unschedulable"} 1.0')
    text = await until(port, "/metrics", status=200, text='pending_pods{queue="gated"} 1.0')
    assert 'leader_election_master_status{name="slurmlet-scheduler"} 1.0' in text
    assert 'scheduler_pod_scheduling_sli_duration_seconds_count{attempts="1"} 1.0' in text
    assert page(port, "/healthz") == (200, "ok\n")
    status = await asyncio.to_thread(scheduler.stop)
    assert (status, page(port, "/healthz")[0]) == (0, 0)


@pytest.mark.claim("K59")
async def test_a_reason_that_stays_is_one_event_that_counts(
    control_plane: ControlPlane,
    admin: Api,
    virtual_node: None,
    tmp_path: Path,
    schedulers: list[Scheduler],
) -> None:
    (port,) = free_ports("127.0.0.1", 1)
    scheduler = Scheduler(tmp_path / "s", control_plane, metrics_port=port)
    schedulers.append(scheduler)
    scheduler.start()
    made = await admin.create(PODS, pod("unfit", nodeSelector={"slurmlet.io/partition": "gpu"}))
    line = 'scheduler_schedule_attempts_total{profile="slurmlet-scheduler",result="unschedulable"}'
    for attempt in range(1, 4):
        await until(port, "/metrics", status=200, text=f"{line} {attempt}.0")
        labels = {"metadata": {"labels": {"example.org/changed": str(attempt)}}}
        await admin.patch("/api/v1/nodes/slurm", labels)
    # What it counted it writes once a minute, and before it ends.
    await asyncio.to_thread(scheduler.stop)
    of_pod = f"regarding.uid={made['metadata']['uid']},reason=FailedScheduling"
    events, _ = await admin.list(EVENTS, {"fieldSelector": of_pod})
    (event,) = events
    assert event["series"]["count"] >= 3
    assert "1 node(s) didn't match Pod's node affinity/selector" in event["note"]


async def test_a_port_that_is_taken_is_one_line(
    control_plane: ControlPlane, tmp_path: Path, schedulers: list[Scheduler]
) -> None:
    port = control_plane.config.secure_port
    scheduler = Scheduler(tmp_path / "s", control_plane, metrics_port=port)
    scheduler.start()
    assert scheduler.process
    assert await asyncio.to_thread(scheduler.process.wait, SECONDS) == 1
    said = scheduler.log.read_text()
    assert f"scheduler.metrics_port {port}: Address already in use" in said
    assert "Traceback" not in said


def whole(number: int) -> dict[str, Any]:
    """A pod of some size, as an API server sends it."""
    item = pod(f"pod-{number:05}", nodeSelector={"disk": "ssd"})
    container = {
        **item["spec"]["containers"][0],
        "env": [
            {"name": f"V{index}", "value": f"value {index} of {number}"} for index in range(20)
        ],
        "resources": {"requests": {"cpu": "500m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets"}],
    }
    item["metadata"] |= {
        "namespace": "alice",
        "uid": f"uid-{number}",
        "resourceVersion": str(number),
        "labels": {"app": "many", "pod-template-hash": "abc"},
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:containers": {}}}}],
    }
    item["spec"]["containers"] = [container]
    item["spec"]["volumes"] = [{"name": "token", "projected": {"sources": [{"configMap": {}}]}}]
    item["status"] = {"phase": "Pending"}
    return item


@asynccontextmanager
async def many_pods(directory: Path) -> AsyncIterator[tuple[Path, set[str]]]:
    """A kubeconfig of a server that has 10,000 pods which fit nowhere, and takes all writes."""
    application = web.Application()
    patched = set[str]()

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.sleep(SECONDS)
            return response
        if request.method == "PATCH":
            patched.add(request.path)
        if request.method != "GET":
            return web.json_response({"metadata": {"resourceVersion": "1"}})
        metadata, items = {"resourceVersion": "1"}, [NODE]
        if request.path == "/api/v1/pods":
            start, size = int(request.query.get("continue", 0)), int(request.query["limit"])
            items = [whole(number) for number in range(start, start + size)]
            if start + size < KNOWN:
                metadata["continue"] = str(start + size)
        node = {**NODE, "metadata": {**NODE["metadata"], "resourceVersion": "1"}}
        items = [node] if request.path == "/api/v1/nodes" else items
        return web.json_response({"kind": "List", "metadata": metadata, "items": items})

    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = directory / "kubeconfig"
    server = f"http://127.0.0.1:{runner.addresses[0][1]}"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                "clusters": [{"name": "x", "cluster": {"server": server}}],
                "users": [{"name": "x", "user": {}}],
            }
        )
    )
    try:
        yield config, patched
    finally:
        await runner.cleanup()


def highest_mib(pid: int) -> float:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.claim("K58")
async def test_its_memory_with_10000_pods_known(
    control_plane: ControlPlane, tmp_path: Path, schedulers: list[Scheduler]
) -> None:
    async with many_pods(tmp_path) as (kubeconfig, patched):
        scheduler = Scheduler(
            tmp_path / "s",
            control_plane,
            kubeconfig=str(kubeconfig),
            leader_elect=False,
            qps=5000,
            burst=5000,
        )
        schedulers.append(scheduler)
        scheduler.start()
        async with asyncio.timeout(SECONDS):
            while len(patched) < KNOWN:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert scheduler.process
        highest = highest_mib(scheduler.process.pid)
        print(f"{highest:.0f} MiB at most, with {KNOWN} pods known")
        assert highest <= MOST_MIB
        scheduler.kill()
