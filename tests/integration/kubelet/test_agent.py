"""The agent's parts on a real API server, under the certificate system:node:slurm."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.unit.kubelet.fakes import FakeSlurm

from slurmlet.common import tls
from slurmlet.common.kube import STRATEGIC, Api, ApiError, Credentials
from slurmlet.common.reflector import key_of
from slurmlet.controlplane.run import ControlPlane
from slurmlet.kubelet import lease, plan
from slurmlet.kubelet.api.auth import Authorizer
from slurmlet.kubelet.api.podlogs import PodLogs
from slurmlet.kubelet.api.server import KubeletApi
from slurmlet.kubelet.brokerclient import Broker
from slurmlet.kubelet.config import Kubelet, virtual_nodes
from slurmlet.kubelet.events import Events
from slurmlet.kubelet.podstatus import Known, annotations_for, patch_for, wanted
from slurmlet.kubelet.records import Records
from slurmlet.kubelet.registration import Registration
from slurmlet.kubelet.services import api_forwarding
from slurmlet.kubelet.servicewatch import API_SERVICE
from slurmlet.kubelet.slurm.query import JobFacts, Slurm
from slurmlet.kubelet.streams import Streams
from slurmlet.kubelet.survey import Survey

Kubectl = Callable[..., str]
POD_PATH = "/api/v1/namespaces/alice/pods"


@pytest.fixture
async def api(config: Kubelet) -> AsyncIterator[Api]:
    credentials = Credentials(
        server=config.server,
        ca_file=config.ca,
        cert_file=config.client_cert,
        key_file=config.client_key,
    )
    async with Api.from_credentials(credentials) as found:
        yield found


async def registration(
    api: Api, config: Kubelet, said: list[str], *, slurm: FakeSlurm | None = None
) -> Registration:
    """Of a cluster that Slurm was asked of."""
    survey = Survey(slurm=Slurm((slurm or FakeSlurm()).run), on_look=lambda: None)
    await survey.look()
    (node,) = virtual_nodes(config)
    return Registration(
        api=api,
        watching=api,
        survey=survey,
        node=node,
        config=config,
        cluster="lab",
        release="0.1.0",
        jobs=dict,
        on_missing=lambda: said.append("missing"),
        on_recovery=lambda: said.append("recovery"),
    )


@pytest.fixture
async def node(api: Api, config: Kubelet) -> Registration:
    """The virtual node, registered."""
    found = await registration(api, config, [])
    await found.post()
    return found


def bound_pod(kubectl: Kubectl, name: str, *, node: str = "slurm", **spec: Any) -> Any:
    """A pod of alice on a node, as the API server has it."""
    container = {"name": "main", "image": "registry.lab:5000/busybox:1.37", **spec}
    volumes = container.pop("volumes", [])
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "schedulerName": "nobody",
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
            "volumes": volumes,
        },
    }
    kubectl("alice", "-n", "alice", "create", "-f", "-", stdin=json.dumps(body))
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": {"kind": "Node", "name": node},
    }
    path = f"{POD_PATH}/{name}/binding"
    kubectl("admin", "create", "--raw", path, "-f", "-", stdin=json.dumps(binding))
    return json.loads(kubectl("alice", "-n", "alice", "get", "pod", name, "-o", "json"))


@pytest.fixture(autouse=True)
def clean(kubectl: Kubectl) -> Any:
    yield
    kubectl("admin", "-n", "alice", "delete", "pods", "--all", "--force", "--grace-period=0")
    names = ("configmap/plan", "secret/plan", "secret/apart")
    kubectl("admin", "-n", "alice", "delete", *names, "--ignore-not-found")
    kubectl("admin", "delete", "node", "slurm", "--ignore-not-found")


async def allowed(ask: Callable[[], Any]) -> Any:
    """What the node authorizer allows once its graph has seen the binding."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return await ask()
        except ApiError as error:
            if error.status != 403 or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


def test_the_node_registers(node: Registration, kubectl: Kubectl) -> None:
    found = json.loads(kubectl("admin", "get", "node", "slurm", "-o", "json"))
    assert found["status"]["allocatable"]["cpu"] == "4"
    assert found["metadata"]["labels"]["type"] == "virtual-kubelet"
    assert json.loads(found["metadata"]["annotations"]["slurmlet.io/largest"])["cpu"]
    ready = next(item for item in found["status"]["conditions"] if item["type"] == "Ready")
    assert ready["status"] == "True"
    taints = {(item["key"], item["effect"]) for item in found["spec"]["taints"]}
    assert ("slurmlet.io/slurm", "NoSchedule") in taints


@pytest.mark.claim("V1")
async def test_devices_of_drained_nodes_are_taken_back(
    api: Api, config: Kubelet, kubectl: Kubectl
) -> None:
    slurm = FakeSlurm(nodes="c1|cpu*|4|8000|idle|10.77.0.11|c1|gpu:4|\n")
    found = await registration(api, config, [], slurm=slurm)
    for state, devices in (("idle", "4"), ("idle+drain", None), ("idle", "4")):
        slurm.nodes = f"c1|cpu*|4|8000|{state}|10.77.0.11|c1|gpu:4|\n"
        await found.survey.look()
        await found.post()
        status = json.loads(kubectl("admin", "get", "node", "slurm", "-o", "json"))["status"]
        assert status["allocatable"].get("nvidia.com/gpu") == devices
        assert status["capacity"]["nvidia.com/gpu"] == "4"


async def test_what_somebody_wrote_on_the_node_does_not_last(
    node: Registration, kubectl: Kubectl
) -> None:
    def found() -> Any:
        return json.loads(kubectl("admin", "get", "node", "slurm", "-o", "json"))

    before = found()
    await node.post()
    assert found() == before, "the API server's own way to write is no change"
    changes = {
        "metadata": {"annotations": {"slurmlet.io/largest": "{}"}},
        "status": {"capacity": {"cpu": "999"}},
    }
    kubectl(
        *("admin", "patch", "node", "slurm", "--subresource=status", "--type=merge"),
        *("-p", json.dumps(changes)),
    )
    await node.post()
    after = found()
    assert after["status"]["capacity"] == before["status"]["capacity"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]


@pytest.fixture
async def kept(api: Api, config: Kubelet) -> AsyncIterator[tuple[Registration, list[str]]]:
    """The virtual node, kept by the running agent, and what that said."""
    said: list[str] = []
    found = await registration(api, config, said)
    running = asyncio.create_task(found.run())
    await until(lambda: found.cordoned is not None)
    yield found, said
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    # TLS connections take some rounds of the loop to close (aiohttp, Graceful shutdown).
    await asyncio.sleep(0.25)


async def until(holds: Callable[[], Any], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.claim("V7")
async def test_a_deleted_node_is_back_in_seconds(
    kept: tuple[Registration, list[str]], kubectl: Kubectl
) -> None:
    _, said = kept
    arguments = ("get", "node", "slurm", "-o", "json", "--ignore-not-found")
    before = json.loads(await asyncio.to_thread(kubectl, "admin", *arguments))
    await asyncio.to_thread(kubectl, "admin", "delete", "node", "slurm", "--wait=false")
    deadline = time.monotonic() + 8
    again = before
    while not again or again["metadata"]["uid"] == before["metadata"]["uid"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
        again = json.loads(await asyncio.to_thread(kubectl, "admin", *arguments) or "null")
    await until(lambda: said[-1] == "missing")
    assert again["metadata"]["labels"] == before["metadata"]["labels"]


@pytest.mark.claim("V8")
async def test_cordon_and_uncordon_are_noticed_at_once(
    kept: tuple[Registration, list[str]], kubectl: Kubectl
) -> None:
    found, said = kept
    await asyncio.to_thread(kubectl, "admin", "cordon", "slurm")
    await until(lambda: found.cordoned, seconds=3)
    assert "recovery" not in said
    await asyncio.to_thread(kubectl, "admin", "uncordon", "slurm")
    await until(lambda: found.cordoned is False, seconds=3)
    assert said[-1] == "recovery"


def test_the_lease_is_made_and_renewed(config: Kubelet, kubectl: Kubectl) -> None:
    arguments = ("-n", "kube-node-lease", "get", "lease", "slurm", "-o", "json")
    lease.renew(config, virtual_nodes(config)[0])
    first = json.loads(kubectl("admin", *arguments))["spec"]
    lease.renew(config, virtual_nodes(config)[0])
    second = json.loads(kubectl("admin", *arguments))["spec"]
    assert first["holderIdentity"] == "slurm"
    assert second["renewTime"] > first["renewTime"]


async def test_status_and_annotations_are_accepted_and_stay(
    node: Registration, api: Api, kubectl: Kubectl
) -> None:
    pod = bound_pod(kubectl, "status")
    job = JobFacts(job_id=7, state="PENDING", uid=2001, reason="Resources")
    now = "2026-01-01T00:00:00Z"

    def patch_of(live: Any) -> Any:
        return patch_for(live, wanted(live, Known(job=job), now=now), annotations_for(job))

    patch = patch_of(pod)
    live = await allowed(
        lambda: api.patch(f"{POD_PATH}/status/status", patch, content_type=STRATEGIC)
    )
    assert live["metadata"]["annotations"]["status.slurmlet.io/job-id"] == "7"
    assert live["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "SlurmPending"
    assert live["status"]["qosClass"] == "BestEffort"
    assert patch_of(live) is None, "the API server's own form of it is not patched again"
    scheduled = [item for item in live["status"]["conditions"] if item["type"] == "PodScheduled"]
    assert len(scheduled) == 1


async def test_a_patch_for_another_uid_is_refused(
    node: Registration, api: Api, kubectl: Kubectl
) -> None:
    bound_pod(kubectl, "other")
    body = {"metadata": {"uid": "11111111-2222-3333-4444-555555555555"}}
    with pytest.raises(ApiError) as caught:
        await allowed(lambda: api.patch(f"{POD_PATH}/other/status", body, content_type=STRATEGIC))
    assert caught.value.status in (409, 422)


async def test_the_plan_has_content_and_a_bound_token(
    node: Registration, api: Api, kubectl: Kubectl
) -> None:
    kubectl("alice", "-n", "alice", "create", "configmap", "plan", "--from-literal=colour=green")
    kubectl("alice", "-n", "alice", "create", "secret", "generic", "plan", "--from-literal=w=xyz")
    pod = bound_pod(
        kubectl,
        "plan",
        envFrom=[{"configMapRef": {"name": "plan"}}],
        volumes=[{"name": "s", "secret": {"secretName": "plan"}}],
    )
    made = await allowed(
        lambda: plan.build(
            api,
            pod,
            ip="10.78.1.7",
            host_ip="10.0.0.1",
            engine="crun",
            surroundings=plan.Surroundings(service_env={}),
        )
    )
    assert made.config_maps == {"plan": {"colour": "green"}}
    files = {file.path: file.data for volume in made.volumes for file in volume.files}
    assert base64.b64decode(files["w"]) == b"xyz"
    assert b"BEGIN CERTIFICATE" in base64.b64decode(files["ca.crt"])
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": base64.b64decode(files["token"]).decode()},
    }
    answer = await api.create("/apis/authentication.k8s.io/v1/tokenreviews", review)
    user = answer["status"]["user"]
    assert user["username"] == "system:serviceaccount:alice:default"
    assert user["extra"]["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]


async def test_the_node_may_see_services_and_finds_the_api_server_s(
    node: Registration, api: Api
) -> None:
    items, _ = await api.list("/api/v1/services", {})
    found = next(item for item in items if key_of(item) == API_SERVICE)
    (forwarding,) = api_forwarding(found, server="https://10.77.0.1:6443")
    assert forwarding.address == found["spec"]["clusterIP"]
    assert (forwarding.port, forwarding.to_port) == (443, 6443)


async def test_what_no_pod_refers_to_is_out_of_reach(
    node: Registration, api: Api, kubectl: Kubectl
) -> None:
    kubectl("alice", "-n", "alice", "create", "secret", "generic", "apart", "--from-literal=w=x")
    with pytest.raises(ApiError) as caught:
        await api.get("/api/v1/namespaces/alice/secrets/apart")
    assert caught.value.status == 403


async def test_own_pods_can_be_listed_by_name(
    node: Registration, api: Api, kubectl: Kubectl
) -> None:
    """What decides whether the job of a vanished pod is cancelled."""
    pod = bound_pod(kubectl, "listed")

    async def found(name: str) -> list[str]:
        fields = {"fieldSelector": f"metadata.name={name},spec.nodeName=slurm"}
        items, _ = await api.list(POD_PATH, fields)
        return [item["metadata"]["uid"] for item in items]

    assert await found("listed") == [pod["metadata"]["uid"]]
    assert await found("vanished") == []


async def test_events_reach_the_pod(node: Registration, api: Api, kubectl: Kubectl) -> None:
    pod = bound_pod(kubectl, "told")
    events = Events(api)
    writing = asyncio.create_task(events.run())
    for _ in range(3):
        events.emit(pod, "SlurmRejected", "no such partition", kind="Warning")
    arguments = ("-n", "alice", "get", "events", "--field-selector", "involvedObject.name=told")
    deadline = time.monotonic() + 15
    counts: list[int] = []
    while counts != [3]:
        assert time.monotonic() < deadline, counts
        await asyncio.sleep(0.1)
        text = await asyncio.to_thread(kubectl, "alice", *arguments, "-o", "json")
        counts = [item["count"] for item in json.loads(text)["items"]]
    writing.cancel()


@pytest.fixture
async def kubelet_api(
    api: Api, config: Kubelet, node: Registration, kubectl: Kubectl
) -> AsyncIterator[str]:
    """The kubelet API on its port; the result is its URL."""
    pod = bound_pod(kubectl, "waiting")
    records, streams = Records(), Streams()
    served = KubeletApi(
        authorizer=Authorizer(api, "slurm"),
        store={"alice/waiting": pod},
        records=records,
        logs=PodLogs(records=records, streams=streams, broker=Broker(config.broker_socket)),
        healthy=lambda: "",
        streams=asyncio.Semaphore(10),
    )
    context = tls.server_context(
        cert=config.serving_cert, key=config.serving_key, client_ca=config.ca
    )
    serving = asyncio.create_task(
        served.serve(address="127.0.0.1", port=config.port, context=context)
    )
    # With a whole handshake: a server that is still in one when its test ends leaves a socket.
    trusted = ssl.create_default_context(cafile=config.ca)
    deadline = time.monotonic() + 10
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", config.port, ssl=trusted)
            writer.close()
            await writer.wait_closed()
            break
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    yield f"https://127.0.0.1:{config.port}"
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def status_of(url: str, config: Kubelet, pki: Path, client: str | None) -> int:
    context = ssl.create_default_context(cafile=config.ca)
    if client:
        context.load_cert_chain(pki / f"{client}.crt", pki / f"{client}.key")
    connector = aiohttp.TCPConnector(ssl=context, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as answer:
        return answer.status


async def test_the_api_server_reaches_the_agent(kubelet_api: str, kubectl: Kubectl) -> None:
    arguments = ("-n", "alice", "logs", "waiting")
    said = await asyncio.to_thread(kubectl, "alice", *arguments, fails=True)
    assert 'container "main" in pod "waiting" is waiting to start: ContainerCreating' in said


async def test_only_who_may_reaches_the_kubelet_api(
    kubelet_api: str, config: Kubelet, control_plane: ControlPlane
) -> None:
    pki = Path(control_plane.config.pki_dir)
    url = f"{kubelet_api}/pods"
    assert await status_of(url, config, pki, None) == 401
    assert await status_of(url, config, pki, "scheduler") == 403
    assert await status_of(url, config, pki, "apiserver-kubelet-client") == 200
    assert await status_of(f"{kubelet_api}/exec/a/b/c", config, pki, "scheduler") == 403
    exec_status = await status_of(
        f"{kubelet_api}/exec/a/b/c", config, pki, "apiserver-kubelet-client"
    )
    assert exec_status == 501
