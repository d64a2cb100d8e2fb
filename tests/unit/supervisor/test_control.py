"""The control connection, against an agent made of another WebSocket implementation."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from websockets.utils import accept_key

from slurmlet.contracts.podproto import (
    Bye,
    ContainerReport,
    ContainerState,
    Event,
    Hello,
    Message,
    NeedPlan,
    OpenStream,
    Redirection,
    Status,
    Stop,
    StreamFailed,
    Update,
    encode_plan,
)
from slurmlet.supervisor import control as control_module
from slurmlet.supervisor import websocket
from slurmlet.supervisor.config import Job
from slurmlet.supervisor.control import Control
from slurmlet.supervisor.logs import LogFile
from slurmlet.supervisor.sandbox import Proof
from slurmlet.supervisor.streams import Streams

from .agents import Agent, give
from .plans import UID, make_plan

TOKEN = "5" * 64


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(control_module, "LONGEST_DELAY", 0.05)


class Here:
    """The supervisor's side."""

    def __init__(self, agent: Agent, authority: trustme.CA, *, host: str = "127.0.0.1") -> None:
        tls = ssl.create_default_context()
        authority.configure_trust(tls)
        self.tls = tls
        self.stops: list[Stop] = []
        self.requests: list[OpenStream] = []
        self.updates: list[Update] = []
        self.job = Job(
            job_id=7, host="c1", agent_host=host, agent_port=agent.port, pod_uid=UID, token=TOKEN
        )
        self.control = Control(
            self.job,
            tls=tls,
            on_stop=self.stops.append,
            on_stream=self.requests.append,
            on_update=self.updates.append,
            proof=Proof(record="MUNGE:x:"),
        )

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what has no event of its own."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Control]:
        task = asyncio.create_task(self.control.run())
        try:
            yield self.control
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def status(sequence: int, *, final: bool = False) -> Status:
    state = ContainerState(kind="running")
    report = ContainerReport(name="main", init=False, state=state)
    return Status(seq=sequence, phase="Running", containers=(report,), final=final)


async def test_hello_gets_a_plan_in_chunks(agent: Agent, authority: trustme.CA) -> None:
    plan = make_plan([{"name": "main"}], config_maps={"c": {"k": '"' * 600_000}})
    agent.on_message = give(plan)
    async with agent.listening():
        here = Here(agent, authority)
        async with here.running() as control:
            assert await asyncio.wait_for(asyncio.shield(control.plan), 10) == plan
    assert agent.received[0] == Hello(job_id=7, host="c1", record="MUNGE:x:")
    assert agent.paths == [f"/v1/pods/{UID}/control"]
    assert agent.bearers == [f"Bearer {TOKEN}"]


async def test_the_plan_can_be_had_again(agent: Agent, authority: trustme.CA) -> None:
    first, second = make_plan([]), make_plan([], secrets={"s": {"k": "dg=="}})

    def answer(message: Message) -> list[Message]:
        return list(encode_plan(second)) if isinstance(message, NeedPlan) else give(first)(message)

    agent.on_message = answer
    async with agent.listening():
        here = Here(agent, authority)
        async with here.running() as control:
            await asyncio.wait_for(asyncio.shield(control.plan), 10)
            both = await asyncio.gather(control.replan(), control.replan())
            assert list(both) == [second, second]
            assert await control.replan() == second
            assert control.plan.result() == first
    assert len(agent.of(NeedPlan)) == 2


async def test_an_agent_that_gives_no_other_plan_is_not_waited_for(
    agent: Agent, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "REPLAN_TIMEOUT", 0.05)
    agent.on_message = give(make_plan([]))
    async with agent.listening():
        here = Here(agent, authority)
        assert await here.control.replan() is None
        async with here.running() as control:
            await asyncio.wait_for(asyncio.shield(control.plan), 10)
            assert await control.replan() is None
    # What was asked for while nobody listened is not asked for late.
    assert len(agent.of(NeedPlan)) == 1


async def test_statuses_are_acknowledged_and_events_arrive(
    agent: Agent, authority: trustme.CA
) -> None:
    agent.on_message = give(make_plan([]))
    async with agent.listening():
        here = Here(agent, authority)
        async with here.running() as control:
            control.tell(Event(reason="Pulling", message="x"))
            control.publish(status(4))
            await asyncio.wait_for(control.acknowledged(4), 10)
    assert agent.of(Status) == [status(4)]
    assert agent.of(Event) == [Event(reason="Pulling", message="x")]


async def test_an_agent_that_comes_back_gets_the_newest_snapshot(
    agent: Agent, authority: trustme.CA
) -> None:
    agent.on_message = give(make_plan([]))
    async with agent.listening():
        here = Here(agent, authority)
        connection = here.running()
        control = await connection.__aenter__()
        control.publish(status(1))
        await control.acknowledged(1)
    control.publish(status(2))
    control.publish(status(3, final=True))
    agent.received.clear()
    async with agent.listening(agent.port):
        await asyncio.wait_for(control.acknowledged(3), 10)
    await connection.__aexit__(None, None, None)
    assert agent.received[0] == Hello(job_id=7, host="c1", planned=True, record="MUNGE:x:")
    assert agent.of(Status) == [status(3, final=True)]


async def test_commands_arrive(agent: Agent, authority: trustme.CA) -> None:
    request = OpenStream(id="1", kind="logs", container="main")
    async with agent.listening():
        here = Here(agent, authority)
        async with here.running():
            await agent.until(lambda: agent.received)
            await agent.send(Stop(grace=2.5))
            await agent.send(request)
            await agent.send(Update(services=(Redirection(port=80, target_port=8080),)))
            await here.until(lambda: here.updates)
    assert here.stops == [Stop(grace=2.5)]
    assert here.requests == [request]
    assert here.updates[0].services[0].target_port == 8080


async def test_bye_before_a_plan_is_the_answer(agent: Agent, authority: trustme.CA) -> None:
    agent.on_message = lambda _: [Bye(reason="another job has this pod")]
    async with agent.listening():
        here = Here(agent, authority)
        async with here.running() as control:
            answer = await asyncio.wait_for(asyncio.shield(control.plan), 10)
    assert answer == Bye(reason="another job has this pod")


async def test_nonsense_only_costs_the_connection(agent: Agent, authority: trustme.CA) -> None:
    agent.on_message = give(make_plan([]))
    async with agent.listening():
        here = Here(agent, authority)
        async with here.running() as control:
            await asyncio.wait_for(asyncio.shield(control.plan), 10)
            assert agent.connection
            await agent.connection.send("{")
            await agent.until(lambda: len(agent.of(Hello)) == 2)
            control.publish(status(1))
            await asyncio.wait_for(control.acknowledged(1), 10)


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_an_agent_that_cannot_prove_itself_gets_no_token(
    agent: Agent, authority: trustme.CA, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with agent.listening():
        here = Here(
            agent,
            trustme.CA() if wrong == "authority" else authority,
            host="127.0.0.1" if wrong == "authority" else "localhost",
        )
        async with here.running() as control:
            await here.until(lambda: "certificate verify failed" in caplog.text)
            assert not control.plan.done()
    assert agent.paths == []
    assert TOKEN not in caplog.text


async def test_silence_ends_a_connection(
    agent: Agent, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "PING_AFTER", 0.02)
    monkeypatch.setattr(control_module, "GIVE_UP_AFTER", 0.1)
    monkeypatch.setattr(websocket, "_CLOSE_TIMEOUT", 0.1)
    connections = []
    silent = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Accepts the upgrade and then says nothing more, like a NAT that has forgotten.
        request = await reader.readuntil(b"\r\n\r\n")
        connections.append(request)
        key = next(line for line in request.split(b"\r\n") if b"sec-websocket-key" in line.lower())
        answer = accept_key(key.split(b":")[1].strip().decode()).encode()
        writer.write(
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + answer + b"\r\n\r\n"
        )
        if len(connections) == 2:
            silent.set()
        try:
            await over.wait()
        finally:
            writer.transport.abort()
            ended.append(writer)

    ended: list[asyncio.StreamWriter] = []
    over = asyncio.Event()
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=agent.tls)
    agent.port = server.sockets[0].getsockname()[1]
    async with Here(agent, authority).running():
        await asyncio.wait_for(silent.wait(), 10)
    over.set()
    server.close()
    async with asyncio.timeout(10):
        while len(ended) < len(connections):  # noqa: ASYNC110
            await asyncio.sleep(0)


def make_log(tmp_path: Path, *lines: bytes) -> LogFile:
    log = LogFile(tmp_path / "main" / "0.log", limit=10**7)
    for line in lines:
        log.write(b"t stdout F " + line + b"\n")
    return log


def make_streams(
    here: Here, tmp_path: Path, log: LogFile | None
) -> tuple[Streams, list[StreamFailed]]:
    failed: list[StreamFailed] = []
    streams = Streams(here.job, tls=here.tls, logs=tmp_path, log=lambda _: log, tell=failed.append)
    return streams, failed


async def test_a_log_is_followed_to_its_last_line(
    agent: Agent, authority: trustme.CA, tmp_path: Path
) -> None:
    log = make_log(tmp_path, b"1", b"2", b"3")
    async with agent.listening():
        streams, _ = make_streams(Here(agent, authority), tmp_path, log)
        streams.open(OpenStream(id="s", kind="logs", container="main", follow=True, tail_lines=2))
        await agent.until(lambda: agent.streams.get("s"))
        assert agent.streams["s"] == [b"t stdout F 2\nt stdout F 3\n"]
        log.write(b"t stdout F 4\n")
        await agent.until(lambda: len(agent.streams["s"]) == 2)
        log.write(b"t stdout F 5\n")
        log.finish()
        await agent.until(lambda: agent.streams["s"][-1] is None)
        await streams.close()
    assert b"".join(agent.streams["s"][:-1]).count(b"\n") == 4
    assert agent.bearers == [f"Bearer {TOKEN}"]


async def test_without_follow_a_stream_ends_with_what_is_there(
    agent: Agent, authority: trustme.CA, tmp_path: Path
) -> None:
    log = make_log(tmp_path, *(b"%d" % number + b"x" * 100 for number in range(3000)))
    async with agent.listening():
        streams, _ = make_streams(Here(agent, authority), tmp_path, log)
        streams.open(OpenStream(id="s", kind="logs", container="main", restart_count=0))
        await agent.until(lambda: agent.streams.get("s") and agent.streams["s"][-1] is None)
    pieces = agent.streams["s"][:-1]
    assert b"".join(pieces) == log.path.read_bytes()
    assert all(piece.endswith(b"\n") and len(piece) < 2**17 for piece in pieces)


async def test_a_follower_goes_over_to_the_new_file(
    agent: Agent, authority: trustme.CA, tmp_path: Path
) -> None:
    log = LogFile(tmp_path / "main" / "0.log", limit=40)
    async with agent.listening():
        streams, _ = make_streams(Here(agent, authority), tmp_path, log)
        streams.open(OpenStream(id="s", kind="logs", container="main", follow=True))
        await agent.until(lambda: "s" in agent.streams)
        for number in range(6):
            log.write(b"t stdout F line %d\nt stdout F and more\n" % number)
            wanted = b"line %d\n" % number
            await agent.until(lambda wanted=wanted: wanted in b"".join(agent.streams["s"]))  # type: ignore[misc]
        log.finish()
        await agent.until(lambda: agent.streams["s"][-1] is None)
    assert b"".join(agent.streams["s"][:-1]).count(b"\n") == 12


async def test_a_stream_has_all_files_of_a_log(
    agent: Agent, authority: trustme.CA, tmp_path: Path
) -> None:
    """Of the one that is written and of one that was; the tail may begin in an older file."""
    lines = [b"t stdout F line %02d\n" % number for number in range(9)]
    async with agent.listening():
        for start in range(2):
            log = LogFile(tmp_path / "main" / f"{start}.log", limit=4 * 3 * len(lines[0]))
            log.write(b"".join(lines))
            if start == 0:
                log.finish()
        streams, _ = make_streams(Here(agent, authority), tmp_path, log)
        for name, number, tail in (("all", 0, None), ("old", 0, 5), ("new", 1, 5)):
            streams.open(
                OpenStream(
                    id=name,
                    kind="logs",
                    container="main",
                    restart_count=number,
                    tail_lines=tail,
                )
            )
        for name in ("all", "old", "new"):
            await agent.until(
                lambda name=name: agent.streams.get(name) and agent.streams[name][-1] is None  # type: ignore[misc]
            )
    assert b"".join(agent.streams["all"][:-1]) == b"".join(lines)
    assert b"".join(agent.streams["old"][:-1]) == b"".join(lines[-5:])
    assert b"".join(agent.streams["new"][:-1]) == b"".join(lines[-5:])


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (OpenStream(id="s", kind="exec", container="main"), "'exec' are not supported"),
        (OpenStream(id="s", kind="logs", container="main", restart_count=9), "no log of start 9"),
    ],
)
async def test_streams_that_cannot_be(
    agent: Agent, authority: trustme.CA, tmp_path: Path, request_: OpenStream, words: str
) -> None:
    streams, failed = make_streams(Here(agent, authority), tmp_path, make_log(tmp_path, b"1"))
    streams.open(request_)
    await streams.close()
    assert words in failed[0].message


async def test_a_container_without_a_log_yet(
    agent: Agent, authority: trustme.CA, tmp_path: Path
) -> None:
    streams, failed = make_streams(Here(agent, authority), tmp_path, None)
    streams.open(OpenStream(id="s", kind="logs", container="main"))
    await streams.close()
    assert failed == [StreamFailed(id="s", message='container "main" has not started yet')]
