"""A network and an API server that let the scheduler down, before a real one."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from aiohttp import web
from tests.integration.scheduler.process import (
    EVENTS,
    LEASE,
    PODS,
    USUAL,
    Scheduler,
    node_of,
    pod,
    rounds,
    scheduled_events,
)
from tests.integration.scheduler.proxies import Bad, Fault, Handler, Wire

from slurmlet.common.kube import Api
from slurmlet.controlplane.run import ControlPlane

SECONDS = 60
SILENCE = rounds("WATCH_SILENCE", 5)
"""Seconds until a watch counts as dead; 90 is the default, which takes its time."""
RESUMED_SECONDS = 120
FAULTS = 2
"""Answers that are bad, before they are good again."""


async def bound(api: Api, name: str, *, seconds: float = SECONDS) -> None:
    """Wait until the pod is."""
    async with asyncio.timeout(seconds):
        while not node_of(await api.get(f"{PODS}/{name}")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def make(api: Api, name: str) -> None:
    await api.create(PODS, pod(name))


@pytest.mark.claim("K53")
@pytest.mark.timeout(SECONDS + 2 * RESUMED_SECONDS)
async def test_packets_that_are_dropped_without_a_word(
    control_plane: ControlPlane,
    admin: Api,
    virtual_node: None,
    tmp_path: Path,
    schedulers: list[Scheduler],
) -> None:
    wire = Wire(control_plane.config.secure_port)
    async with wire.open() as server:
        scheduler = Scheduler(
            tmp_path / "s", control_plane, server=server, watch_silence_seconds=SILENCE, **USUAL
        )
        schedulers.append(scheduler)
        scheduler.start()
        await make(admin, "before")
        await bound(admin, "before")
        wire.cut()
        cut = time.monotonic()
        await make(admin, "after")
        # A list may be tried on a connection that is dead, too, before that has rested for 15 s.
        await bound(admin, "after", seconds=min(RESUMED_SECONDS, SILENCE + 60))
        print(f"bound again after {time.monotonic() - cut:.1f} s")
        assert scheduler.alive
        await asyncio.to_thread(scheduler.stop)


def answers(status: int, body: object, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return answer


STATUS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 500}
EMPTY = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}


async def cut_off(request: web.Request) -> web.StreamResponse:
    """Half of an empty list: of what a whole one would say, all that matters."""
    data = json.dumps(EMPTY).encode()
    response = web.StreamResponse(headers={"Content-Length": str(len(data))})
    await response.prepare(request)
    await response.write(data[:-20])
    assert request.transport
    request.transport.close()
    return response


async def half_an_event(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'{"type":"DELETED","object":{"kind":"Node","metadata":{"name":"slurm"')
    return response


BAD: dict[str, Handler] = {
    "500": answers(500, {**STATUS, "reason": "InternalError"}),
    "429": answers(429, {**STATUS, "code": 429}, **{"Retry-After": "1"}),
    "a Status with 200": answers(200, STATUS),
    "a list with 203": answers(203, EMPTY),
    "a list without a version": answers(200, {**EMPTY, "metadata": {}}),
    "a list that is cut off": cut_off,
    "no JSON": answers(200, "sorry"),
}


def on_lists(handler: Handler) -> Fault:
    def fault(request: web.Request) -> Handler | None:
        whole = request.path in ("/api/v1/nodes", "/api/v1/pods")
        return handler if whole and "watch" not in request.query else None

    return fault


def on_watches(handler: Handler) -> Fault:
    return lambda request: handler if "watch" in request.query else None


def on_bindings(handler: Handler) -> Fault:
    return lambda request: handler if request.path.endswith("/binding") else None


def few(fault: Fault, count: int) -> Fault:
    """The fault, so many times."""
    left = [count]

    def limited(request: web.Request) -> Handler | None:
        handler = fault(request) if left[0] else None
        left[0] -= handler is not None
        return handler

    return limited


@pytest.mark.claim("K54")
@pytest.mark.timeout(5 * SECONDS)
async def test_no_bad_answer_loses_a_pod_or_calls_one_unschedulable(
    control_plane: ControlPlane,
    admin: Api,
    virtual_node: None,
    tmp_path: Path,
    schedulers: list[Scheduler],
) -> None:
    bad = Bad(control_plane)
    faults = {f"{name} for lists": on_lists(handler) for name, handler in BAD.items()}
    faults |= {
        f"{name} for bindings": on_bindings(BAD[name])
        for name in ("500", "429", "a list that is cut off", "no JSON")
    }
    faults["half an event"] = on_watches(half_an_event)
    faults["410"] = on_watches(answers(410, {**STATUS, "code": 410, "reason": "Expired"}))
    async with bad.open() as server:
        scheduler = Scheduler(tmp_path / "s", control_plane, server=server, **USUAL)
        schedulers.append(scheduler)
        scheduler.start()
        await make(admin, "first")
        await bound(admin, "first")
        for number, (name, fault) in enumerate(faults.items()):
            bad.faults = 0
            bad.fault = few(fault, FAULTS)
            bad.end_watches()
            await make(admin, f"pod-{number}")
            await bound(admin, f"pod-{number}")
            assert bad.faults > 0, name
        bad.fault = lambda _: None
        items, _ = await admin.list(PODS)
        uids = sorted(item["metadata"]["uid"] for item in items)
        assert len(uids) == len(faults) + 1
        async with asyncio.timeout(SECONDS):
            while set(uids) - set(await scheduled_events(admin)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert scheduler.alive
        failed, _ = await admin.list(EVENTS, {"fieldSelector": "reason=FailedScheduling"})
        said = [event["note"] for event in failed if event["regarding"]["uid"] in uids]
        assert not [note for note in said if "available" in note], said
        await asyncio.to_thread(scheduler.stop)


@pytest.mark.claim("K57")
async def test_a_lease_is_renewed_beside_200_watches(
    admin: Api, control_plane: ControlPlane
) -> None:
    """On one client, as the agent may have them."""
    from slurmlet.scheduler.leader import Election, Terms

    started, all_started = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal started
        async for _ in admin.watch(
            "/api/v1/namespaces/alice/configmaps",
            {"resourceVersion": "0", "fieldSelector": "metadata.name=kube-root-ca.crt"},
        ):
            started += 1
            if started == 200:
                all_started.set()

    election = Election(
        admin,
        namespace="kube-system",
        name="many-watches",
        identity="test",
        terms=Terms(duration=6, deadline=4, retry=0.5),
    )
    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(watch()) for _ in range(200)]
        await asyncio.wait_for(all_started.wait(), SECONDS)
        await asyncio.wait_for(election.acquire(), 5)
        keeping = group.create_task(election.keep())
        path = LEASE.replace("slurmlet-scheduler", "many-watches")
        renewals = set[str]()
        async with asyncio.timeout(10):
            while len(renewals) < 5:
                renewals.add((await admin.get(path))["spec"]["renewTime"])
                await asyncio.sleep(0.2)
        for task in (*watches, keeping):
            task.cancel()
    await election.release()
