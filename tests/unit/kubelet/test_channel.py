"""Supervisors on the wire: real WebSockets on loopback, everything behind them faked."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.unit.kubelet.conftest import KEY, UIDS, World
from tests.unit.kubelet.fakes import UID, FakeJob, pod

from slurmlet.contracts import audit
from slurmlet.contracts.podproto import (
    Ack,
    Bye,
    ContainerReport,
    ContainerState,
    Event,
    FromSupervisor,
    Hello,
    Message,
    NeedPlan,
    OpenStream,
    Plan,
    PlanChunk,
    Status,
    StreamFailed,
    decode_message,
    encode_message,
    join_plan,
    token,
)
from slurmlet.kubelet import channel as channels
from slurmlet.kubelet import jobwatch, session
from slurmlet.kubelet.address import RecordError, Signed
from slurmlet.kubelet.channel import Channel
from slurmlet.kubelet.plan import Surroundings
from slurmlet.kubelet.slurm.process import CommandError
from slurmlet.kubelet.streams import StreamError, Streams

SECONDS = 10
OPEN: list[aiohttp.ClientWebSocketResponse] = []
"""Sockets of the running test: one that is not closed would complain in a later one."""


class FakeDecoder:
    """Answers for munge."""

    def __init__(self) -> None:
        self.answer: Signed | Exception = RecordError("nothing was signed")
        self.asked: list[str] = []

    async def decode(self, record: str) -> Signed:
        self.asked.append(record)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


SIGNED = Signed(job=101, uid=1001, host="c1.site", pod_uid=UID, pod_ip="10.78.1.5")


class Port:
    """The agent's port and the pods behind it."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, *, pod_network: bool) -> None:
        self.world = world
        self.strangers: list[tuple[str, int]] = []
        self.streams = Streams()
        self.decoder = FakeDecoder()
        fakes: Any = (world.api, world.events, self.decoder)
        self.channel = Channel(
            api_of=lambda _: fakes[0],
            records=world.records,
            watch=world.watch,
            events=fakes[1],
            streams=self.streams,
            key=KEY,
            surroundings=Surroundings(
                service_env={"KUBERNETES_SERVICE_HOST": "10.77.0.1"},
                dns_servers=("10.77.0.1",),
                cluster_domain="cluster.local",
            ),
            decoder=fakes[2],
            pod_network=pod_network,
            node_names=lambda name: {name, f"{name}.site"},
            synced=asyncio.Event(),
            pod_of=lambda uid: world.live() if world.exists() and uid == UID else None,
            engine_of=lambda _: "crun",
            node_address=self.address_of,
            user_of=lambda namespace: namespace,
            touch=lambda record: world.touched.append(record.key),
            stranger=self.stranger,
            duplicate=world.submitter.cancel,
            unproved=asyncio.Semaphore(4),
        )
        self.channel.synced.set()
        self.url = ""
        self.resolved: list[str] = []

        async def name_of(uid: int) -> str | None:
            return {1001: "alice", 1002: "bob"}.get(uid)

        async def uid_of(user: str) -> int | None:
            return UIDS.get(user)

        monkeypatch.setattr(channels, "name_of", name_of)
        monkeypatch.setattr(channels, "uid_of", uid_of)
        monkeypatch.setattr(jobwatch, "SPACING_SECONDS", 0.01)

    async def stranger(self, uid: str, job_id: int) -> None:
        self.strangers.append((uid, job_id))
        if self.world.slurm.silent:
            raise CommandError("squeue: no answer in 30 s")

    def address_of(self, node: str) -> str:
        self.resolved.append(node)
        return "127.0.0.1"


class Supervisor:
    """A client that speaks the protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, message: FromSupervisor) -> None:
        await self._socket.send_str(encode_message(message))

    async def receive(self) -> Message | None:
        frame = await asyncio.wait_for(self._socket.receive(), SECONDS)
        return decode_message(frame.data) if frame.type is aiohttp.WSMsgType.TEXT else None

    async def plan(self) -> Plan:
        chunks: list[PlanChunk] = []
        while True:
            message = await self.receive()
            assert isinstance(message, PlanChunk)
            chunks.append(message)
            made = join_plan(chunks)
            if made:
                return made


@pytest.fixture
async def port(
    request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Port]:
    """The parameter, if any, says whether pods have a network of their own."""
    found = Port(world, monkeypatch, pod_network=bool(getattr(request, "param", False)))
    runner = web.AppRunner(found.channel.application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = site.name
    watching = asyncio.create_task(world.watch.run())
    yield found
    watching.cancel()
    await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session
        for socket in OPEN:
            await socket.close()
        OPEN.clear()


def headers(*, user: str = "alice", attempt: int = 1) -> dict[str, str]:
    bearer = token(key=KEY, uid=UID, attempt=attempt, user=user)
    return {"Authorization": f"Bearer {bearer}"}


async def dial(
    client: aiohttp.ClientSession, port: Port, *, uid: str = UID, **kind: Any
) -> Supervisor:
    url = f"{port.url}/v1/pods/{uid}/control"
    socket = await client.ws_connect(url, headers=headers(**kind))
    OPEN.append(socket)
    return Supervisor(socket)


async def with_job(world: World, **changes: Any) -> None:
    """A pod with job 101, which runs on c1."""
    world.add(pod(**changes))
    await world.sync(times=2)
    world.slurm.jobs[101].state, world.slurm.jobs[101].node = "RUNNING", "c1"


HELLO = Hello(job_id=101, host="c1")
RUNNING = Status(
    seq=1,
    phase="Running",
    containers=(ContainerReport(name="main", init=False, state=ContainerState(kind="running")),),
)


def audited(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    acts = [audit.parse(f"INFO {text}") for text in caplog.messages]
    return [(act.what, act.job, act.uid) for act in acts if act]


async def test_hello_plan_status(
    port: Port, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = port.world
    world.api.add(
        {
            "kind": "ConfigMap",
            "metadata": {"namespace": "alice", "name": "settings"},
            "data": {"colour": "green"},
        }
    )
    docker = {".dockerconfigjson": "e30=", "note": "eA=="}
    for name in ("registry", "other"):
        metadata = {"namespace": "alice", "name": name}
        world.api.add({"kind": "Secret", "metadata": metadata, "data": docker})
    container = {"name": "main", "envFrom": [{"configMapRef": {"name": "settings"}}]}
    token_source = {"serviceAccountToken": {"path": "token"}}
    volume = {"name": "access", "projected": {"sources": [token_source]}}
    pulls = [{"name": "registry"}, {"name": "missing"}]
    await with_job(world, containers=[container], volumes=[volume], imagePullSecrets=pulls)
    supervisor = await dial(client, port)
    await supervisor.send(HELLO)
    made = await supervisor.plan()
    assert audited(caplog) == [("plan", 101, UID)]
    assert made.pod["metadata"]["uid"] == UID
    assert made.config_maps == {"settings": {"colour": "green"}}
    assert (made.pull_secrets, made.secrets) == ({"registry": {".dockerconfigjson": "e30="}}, {})
    assert base64.b64decode(made.volumes[0].files[0].data) == b"a-token"
    assert (made.pod_ip, made.host_ip, made.engine) == ("127.0.0.1", "127.0.0.1", "crun")
    assert (made.dns_servers, made.cluster_domain) == (("10.77.0.1",), "cluster.local")
    assert made.service_env["KUBERNETES_SERVICE_HOST"] == "10.77.0.1"
    bound = next(body for _, path, body in world.api.log if path.endswith("/token"))
    assert bound["spec"]["boundObjectRef"]["uid"] == UID

    await supervisor.send(RUNNING)
    assert await supervisor.receive() == Ack(seq=1)
    await supervisor.send(Event(reason="Pulled", message="there"))
    final = replace(RUNNING, seq=2, phase="Succeeded", final=True)
    await supervisor.send(final)
    await settled(lambda: world.record().report_is_final)
    assert ("web", "Pulled", "there") in world.events.emitted
    assert world.record().ip == "127.0.0.1"
    await world.sync()
    assert await supervisor.receive() == Ack(seq=2)
    assert world.live()["status"]["phase"] == "Succeeded"


async def settled(good: Callable[[], object]) -> None:
    """Let the server's side run until it has done what the client asked for."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    while not good():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0)


async def test_who_misses_something_gets_the_plan_again(
    port: Port, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "PLAN_RETRY_SECONDS", 0.01)
    world = port.world
    late = {"name": "late", "envFrom": [{"configMapRef": {"name": "settings"}}]}
    await with_job(world, containers=[{"name": "main"}, late])
    supervisor = await dial(client, port)
    await supervisor.send(HELLO)
    assert (await supervisor.plan()).config_maps == {}
    world.api.down = True
    await supervisor.send(NeedPlan())
    await settled(lambda: world.api.log[-1][0] == "GET")
    world.api.down = False
    metadata = {"namespace": "alice", "name": "settings"}
    world.api.add({"kind": "ConfigMap", "metadata": metadata, "data": {"colour": "green"}})
    await supervisor.send(NeedPlan())
    assert (await supervisor.plan()).config_maps == {"settings": {"colour": "green"}}


async def test_a_supervisor_that_has_its_plan_gets_none(
    port: Port, client: aiohttp.ClientSession
) -> None:
    await with_job(port.world)
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, planned=True))
    await supervisor.send(RUNNING)
    assert await supervisor.receive() == Ack(seq=1)


async def test_what_was_seen_is_ignored(port: Port, client: aiohttp.ClientSession) -> None:
    await with_job(port.world)
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, planned=True))
    await supervisor.send(replace(RUNNING, seq=5))
    assert await supervisor.receive() == Ack(seq=5)
    await supervisor.send(replace(RUNNING, seq=4, phase="Pending"))
    assert await supervisor.receive() == Ack(seq=4)
    report = port.world.record().report
    assert report is not None
    assert (report.seq, report.phase) == (5, "Running")


@pytest.mark.parametrize(
    ("kind", "job", "hello"),
    [
        ({"user": "bob"}, {}, {}),
        ({"attempt": 2}, {}, {}),
        ({}, {"uid": 1002}, {}),
        ({}, {"state": "COMPLETED"}, {}),
        ({}, {"state": "PENDING"}, {}),
        ({}, {"node": "c2"}, {}),
        ({}, {}, {"job_id": 999}),
    ],
)
async def test_others_get_nothing(
    port: Port,
    client: aiohttp.ClientSession,
    kind: dict[str, Any],
    job: dict[str, Any],
    hello: dict[str, Any],
) -> None:
    await with_job(port.world)
    for name, value in job.items():
        setattr(port.world.slurm.jobs[101], name, value)
    supervisor = await dial(client, port, **kind)
    await supervisor.send(replace(HELLO, **hello))
    assert await supervisor.receive() is None
    assert port.world.record().session is None
    assert port.world.broker.cancelled() == []


async def test_a_name_that_slurm_did_not_say_is_not_looked_up(
    port: Port, client: aiohttp.ClientSession
) -> None:
    await with_job(port.world)
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, host="slow.example"))
    assert await supervisor.receive() is None
    assert port.resolved == []


async def test_a_number_that_is_no_job_spoils_nobody_s_hello(
    port: Port, client: aiohttp.ClientSession
) -> None:
    await with_job(port.world)
    stranger = await dial(client, port, user="bob")
    supervisor = await dial(client, port)
    await stranger.send(replace(HELLO, job_id=2**32 - 1))
    await supervisor.send(HELLO)
    await supervisor.plan()
    assert await stranger.receive() is None


async def test_without_a_token_nobody_keeps_others_out(
    port: Port, client: aiohttp.ClientSession
) -> None:
    """Silent connections with made-up tokens take all places that such have."""
    await with_job(port.world)
    for _ in range(4):
        await dial(client, port, user="bob")
    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        await dial(client, port, user="bob")
    supervisor = await dial(client, port)
    await supervisor.send(HELLO)
    await supervisor.plan()


async def test_a_token_opens_few_silent_connections(
    port: Port, client: aiohttp.ClientSession
) -> None:
    await with_job(port.world)
    for _ in range(channels.DIALLING):
        await dial(client, port)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        await dial(client, port)


async def test_a_silent_slurm_decides_nothing(port: Port, client: aiohttp.ClientSession) -> None:
    await with_job(port.world)
    port.world.slurm.silent = True
    supervisor = await dial(client, port)
    await supervisor.send(HELLO)
    assert await supervisor.receive() is None
    assert port.world.broker.cancelled() == []


async def test_a_second_job_is_sent_away_and_cancelled(
    port: Port, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await with_job(port.world)
    port.world.slurm.jobs[102] = FakeJob(state="RUNNING", node="c1")
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, job_id=102))
    message = await supervisor.receive()
    assert isinstance(message, Bye)
    assert await supervisor.receive() is None
    assert port.world.broker.cancelled() == [102]
    assert audited(caplog) == [("bye", 102, UID)]
    assert port.world.record().job_id == 101


async def test_a_hello_adopts_a_pod_without_job(port: Port, client: aiohttp.ClientSession) -> None:
    """The agent died between sbatch and writing the job's id down."""
    port.world.add(pod(metadata={"annotations": {"status.slurmlet.io/attempt": "1"}}))
    port.world.slurm.jobs[101] = FakeJob(state="RUNNING", node="c1")
    supervisor = await dial(client, port)
    await supervisor.send(HELLO)
    await supervisor.plan()
    assert port.world.record().job_id == 101
    assert port.world.touched != []


async def test_an_authentic_job_without_pod_is_reported(
    port: Port, client: aiohttp.ClientSession
) -> None:
    port.world.slurm.jobs[101] = FakeJob(state="RUNNING", node="c1")
    supervisor = await dial(client, port)
    await supervisor.send(HELLO)
    assert await supervisor.receive() is None
    assert port.strangers == [(UID, 101)]


async def test_a_pod_that_is_being_deleted_is_not_started(
    port: Port, client: aiohttp.ClientSession
) -> None:
    deleted = {"deletionTimestamp": "2026-01-01T00:01:00Z"}
    port.world.add(pod(metadata={**deleted, "annotations": {"status.slurmlet.io/job-id": "101"}}))
    port.world.slurm.jobs[101] = FakeJob(state="RUNNING", node="c1")
    supervisor = await dial(client, port)
    await supervisor.send(HELLO)
    assert await supervisor.receive() == Bye(reason="the pod is deleted")
    assert await supervisor.receive() is None


async def test_the_last_status_of_a_vanished_pod_is_acknowledged(
    port: Port, client: aiohttp.ClientSession
) -> None:
    """Nobody can store it any more, and its job shall end."""
    await with_job(port.world)
    supervisor = await dial(client, port)
    await supervisor.send(HELLO)
    await supervisor.plan()
    del port.world.api.objects["/api/v1/namespaces/alice/pods/web"]
    await supervisor.send(Status(seq=7, phase="Failed", containers=(), final=True))
    assert await supervisor.receive() == Ack(seq=7)


async def test_a_talkative_supervisor_is_slowed_down(
    port: Port, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "BURST", 3)
    monkeypatch.setattr(session, "PER_SECOND", 100.0)
    await with_job(port.world)
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, planned=True))
    started = asyncio.get_running_loop().time()
    for seq in range(1, 24):
        await supervisor.send(replace(RUNNING, seq=seq))
    for seq in range(1, 24):
        assert await supervisor.receive() == Ack(seq=seq)
    assert asyncio.get_running_loop().time() - started > 0.19


async def test_no_token_no_connection(port: Port, client: aiohttp.ClientSession) -> None:
    for path in (f"/v1/pods/{UID}/control", "/v1/streams/x"):
        for value in ("", "Bearer x", "Basic abc"):
            async with client.get(port.url + path, headers={"Authorization": value}) as answer:
                assert answer.status == 401


async def test_garbage_ends_only_its_own_connection(
    port: Port, client: aiohttp.ClientSession
) -> None:
    await with_job(port.world)
    bad = await client.ws_connect(f"{port.url}/v1/pods/{UID}/control", headers=headers())
    await bad.send_str("{}")
    assert (await asyncio.wait_for(bad.receive(), SECONDS)).type is aiohttp.WSMsgType.CLOSE
    await bad.close()
    supervisor = await dial(client, port)
    await supervisor.send(HELLO)
    await supervisor.plan()


async def connected(port: Port, client: aiohttp.ClientSession) -> Supervisor:
    await with_job(port.world)
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, planned=True))
    await settled(lambda: port.world.record().session)
    return supervisor


async def believed(port: Port, client: aiohttp.ClientSession, **said: Any) -> Plan:
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, **said))
    return await supervisor.plan()


@pytest.mark.parametrize("port", [True], indirect=True)
async def test_a_pod_has_the_address_that_root_on_its_node_signed(
    port: Port, client: aiohttp.ClientSession
) -> None:
    port.decoder.answer = SIGNED
    await with_job(port.world)
    made = await believed(port, client, record="MUNGE:1:")
    assert port.decoder.asked == ["MUNGE:1:"]
    assert (made.pod_ip, made.host_ip) == ("10.78.1.5", "127.0.0.1")
    await port.world.sync()
    status = port.world.live()["status"]
    assert (status["podIP"], status["hostIP"]) == ("10.78.1.5", "127.0.0.1")
    assert (status["podIPs"], status["hostIPs"]) == ([{"ip": "10.78.1.5"}], [{"ip": "127.0.0.1"}])


@pytest.mark.parametrize("port", [True], indirect=True)
@pytest.mark.parametrize(
    ("said", "answer", "words"),
    [
        ({}, SIGNED, "no sandbox: its node has signed no record"),
        ({"problem": "no addresses left"}, SIGNED, "no sandbox: no addresses left"),
        ({"record": "x"}, RecordError("not made by root"), "not made by root"),
        ({"record": "x"}, replace(SIGNED, job=102), "of job 102 and another pod"),
        ({"record": "x"}, replace(SIGNED, uid=1002), "another pod or user"),
        ({"record": "x"}, replace(SIGNED, pod_uid=UID[::-1]), "another pod or user"),
        ({"record": "x"}, replace(SIGNED, host="c2"), "made on c2"),
        ({"record": "x"}, replace(SIGNED, pod_ip="127.0.0.1"), "which no pod can have"),
    ],
)
async def test_a_pod_that_cannot_prove_its_address_ends_and_says_why(
    port: Port,
    client: aiohttp.ClientSession,
    said: dict[str, Any],
    answer: Signed | Exception,
    words: str,
) -> None:
    world = port.world
    port.decoder.answer = answer
    await with_job(world)
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, **said))
    bye = await supervisor.receive()
    assert isinstance(bye, Bye)
    assert words in bye.reason
    assert await supervisor.receive() is None
    assert world.events.reasons()[-1] == "FailedCreatePodSandBox"
    await world.sync()
    status = world.live()["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "FailedCreatePodSandBox")
    assert words in status["message"]
    assert "podIP" not in status


@pytest.mark.parametrize("port", [True], indirect=True)
async def test_a_silent_munge_decides_nothing(port: Port, client: aiohttp.ClientSession) -> None:
    port.decoder.answer = CommandError("unmunge: exit code 6: no socket", code=6)
    await with_job(port.world)
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, record="x"))
    assert await supervisor.receive() is None
    port.decoder.answer = SIGNED
    assert (await believed(port, client, record="x")).pod_ip == "10.78.1.5"
    assert any("cannot be proved now" in words for _, _, words in port.world.events.emitted)
    await port.world.sync()
    assert port.world.live()["status"]["phase"] == "Pending"


@pytest.mark.parametrize("port", [True], indirect=True)
@pytest.mark.parametrize(
    ("spec", "record"), [({"hostNetwork": True}, None), ({}, replace(SIGNED, pod_ip=""))]
)
async def test_a_pod_in_its_nodes_network_has_its_nodes_address(
    port: Port, client: aiohttp.ClientSession, spec: dict[str, Any], record: Signed | None
) -> None:
    if record:
        port.decoder.answer = record
    await with_job(port.world, **spec)
    made = await believed(port, client, record="x" if record else None)
    assert (made.pod_ip, made.host_ip) == ("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize("port", [True], indirect=True)
async def test_an_address_that_the_pod_has_stays(port: Port, client: aiohttp.ClientSession) -> None:
    """The agent was restarted; munge need not be asked for a thousand pods at once."""
    await with_job(port.world, status={"phase": "Running", "podIP": "10.78.1.5"})
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, planned=True, record="x"))
    await settled(lambda: port.world.record().session)
    assert port.world.record().ip == "10.78.1.5"
    assert port.decoder.asked == []


@pytest.mark.parametrize("port", [True], indirect=True)
async def test_another_start_of_the_job_has_another_address(
    port: Port, client: aiohttp.ClientSession
) -> None:
    """Slurm requeued the job before the pod began: what is written on the pod is not believed."""
    world = port.world
    port.decoder.answer = replace(SIGNED, pod_ip="10.78.1.6")
    await with_job(world, status={"phase": "Pending", "podIP": "10.78.1.5"})
    supervisor = await dial(client, port)
    await supervisor.send(replace(HELLO, record="x"))
    bye = await supervisor.receive()
    assert isinstance(bye, Bye)
    assert "10.78.1.6" in bye.reason
    await world.sync()
    status = world.live()["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "SlurmRequeued")
    await settled(lambda: world.broker.cancelled() == [101])


@pytest.mark.parametrize("port", [True], indirect=True)
async def test_a_supervisor_that_lost_its_plan_on_the_way_proves_its_address_again(
    port: Port, client: aiohttp.ClientSession
) -> None:
    port.decoder.answer = SIGNED
    await with_job(port.world, status={"phase": "Pending", "podIP": "10.78.1.5"})
    assert (await believed(port, client, record="x")).pod_ip == "10.78.1.5"
    assert port.world.broker.cancelled() == []


@pytest.mark.parametrize("phase", ["Running", "Failed"])
async def test_a_pod_that_has_begun_gets_no_second_plan(
    port: Port, client: aiohttp.ClientSession, phase: str
) -> None:
    world = port.world
    began = {"name": "main", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    await with_job(world)
    world.live()["status"] = {"phase": phase, "containerStatuses": [began]}
    supervisor = await dial(client, port)
    await supervisor.send(HELLO)
    assert isinstance(await supervisor.receive(), Bye)
    assert await supervisor.receive() is None
    await world.sync()
    assert world.live()["status"]["phase"] == "Failed"
    await settled(lambda: world.broker.cancelled() == [101])


async def test_a_stream_is_dialled_back(port: Port, client: aiohttp.ClientSession) -> None:
    supervisor = await connected(port, client)
    session = port.world.record().session
    assert session is not None

    async def read() -> bytes:
        request = OpenStream(id="", kind="logs", container="main", tail_lines=3)
        async with port.streams.open(session, request) as socket:
            return b"".join([message.data async for message in socket])

    reading = asyncio.create_task(read())
    asked: Any = await supervisor.receive()
    assert (asked.kind, asked.tail_lines) == ("logs", 3)
    url = f"{port.url}/v1/streams/{asked.id}"
    async with client.get(url, headers=headers(user="bob")) as refused:
        assert refused.status == 401
    stream = await client.ws_connect(url, headers=headers())
    await stream.send_bytes(b"one ")
    await stream.send_bytes(b"two")
    await stream.close()
    assert await asyncio.wait_for(reading, SECONDS) == b"one two"
    async with client.get(url, headers=headers()) as again:
        assert again.status == 404


async def test_a_stream_that_cannot_be_opened_says_why(
    port: Port, client: aiohttp.ClientSession
) -> None:
    supervisor = await connected(port, client)
    session = port.world.record().session
    assert session is not None

    async def read() -> None:
        async with port.streams.open(session, OpenStream(id="", kind="logs", container="x")):
            raise AssertionError("opened")

    reading = asyncio.create_task(read())
    asked: Any = await supervisor.receive()
    await supervisor.send(StreamFailed(id=asked.id, message="no such container"))
    with pytest.raises(StreamError, match="no such container"):
        await asyncio.wait_for(reading, SECONDS)


def test_tokens_are_in_no_repr() -> None:
    plan = Plan(pod={}, secrets={"a": {"b": "hidden"}})
    assert "hidden" not in repr(plan)
    assert json.loads(encode_message(HELLO))["type"] == "hello"
