"""Services whose port is not their targetPort."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kubelet.conftest import FakeSession, World
from tests.unit.kubelet.fakes import pod
from tests.unit.kubelet.test_controller import running

from slurmlet.common.kube import Object
from slurmlet.contracts.podproto import Forwarding, Redirection, Update
from slurmlet.kubelet.services import MAX_REDIRECTIONS, api_forwarding, mapped
from slurmlet.kubelet.servicewatch import ServiceWatch

LABELS = {"app": "web"}


def web(*ports: dict[str, Any], sidecar: bool = False, **changes: Any) -> Object:
    container = {"name": "main", "image": "x", "ports": list(ports)}
    kind: dict[str, Any] = {"containers": [container]}
    if sidecar:
        side = container | {"restartPolicy": "Always", "name": "side"}
        kind = {"containers": [{"name": "main"}], "initContainers": [side]}
    return pod(metadata={"labels": LABELS}, **kind, **changes)


def service(
    name: str, *ports: dict[str, Any], selector: Any = LABELS, ip: str = "None", age: int = 0
) -> Object:
    return {
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": "alice",
            "resourceVersion": "1",
            "creationTimestamp": f"2026-01-01T00:00:{age:02}Z",
        },
        "spec": {"clusterIP": ip, "selector": selector, "ports": list(ports)},
    }


def test_ports_are_redirected_to_their_targets() -> None:
    found = mapped(
        web({"name": "http", "containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}),
        [
            service("a", {"port": 80, "targetPort": "http"}, {"port": 443, "targetPort": 8443}),
            service("b", {"port": 5353, "targetPort": 53, "protocol": "UDP"}, {"port": 8080}),
        ],
    )
    assert found.conflicts == ()
    assert found.redirections == (
        Redirection(port=80, target_port=8080),
        Redirection(port=443, target_port=8443),
        Redirection(port=5353, target_port=53, protocol="UDP"),
    )


def test_a_sidecars_named_port_counts() -> None:
    found = mapped(
        web({"name": "http", "containerPort": 8080}, sidecar=True),
        [service("a", {"port": 80, "targetPort": "http"})],
    )
    assert found.redirections == (Redirection(port=80, target_port=8080),)


@pytest.mark.parametrize(
    "other",
    [
        service("a", {"port": 80, "targetPort": 1}, selector={"app": "db"}),
        service("a", {"port": 80, "targetPort": 1}, selector=None),
        service("a", {"port": 80, "targetPort": 1}, ip="10.96.0.7"),
        service("a", {"port": 80, "targetPort": 1, "protocol": "SCTP"}),
        service("a", {"port": 80, "targetPort": "none"}),
        service("a", {"port": 80, "targetPort": "dns"}),
        service("a", {"port": 80, "targetPort": 80}),
        service("a"),
    ],
)
def test_what_does_not_concern_the_pod(other: Object) -> None:
    named = web({"name": "dns", "containerPort": 53, "protocol": "UDP"})
    assert mapped(named, [other]) == mapped(named, [])


def test_the_oldest_of_two_services_has_a_port() -> None:
    found = mapped(
        web(),
        [
            service("new", {"port": 80, "targetPort": 9090}, age=2),
            service("old", {"port": 80, "targetPort": 8080}, age=1),
            service("same", {"port": 80, "targetPort": 8080}, age=3),
        ],
    )
    assert found.redirections == (Redirection(port=80, target_port=8080),)
    assert found.conflicts == (
        "Service new maps port 80/TCP to 9090, but Service old maps it to 8080",
    )


def test_a_service_without_redirection_holds_its_port_too() -> None:
    found = mapped(
        web(),
        [service("old", {"port": 80}), service("new", {"port": 80, "targetPort": 8080}, age=1)],
    )
    assert found.redirections == ()
    assert found.conflicts == (
        "Service new maps port 80/TCP to 8080, but Service old maps it to 80",
    )


def test_a_port_that_a_container_declares_stays_its_own() -> None:
    pod_ = web({"containerPort": 80}, {"containerPort": 8080})
    found = mapped(pod_, [service("a", {"port": 80, "targetPort": 8080})])
    assert found.redirections == ()
    assert found.conflicts == (
        "Service a maps port 80/TCP to 8080, but container main declares that port itself",
    )


def test_there_is_a_bound() -> None:
    ports = [{"port": number, "targetPort": 9} for number in range(100, 102 + MAX_REDIRECTIONS)]
    found = mapped(web(), [service("a", *ports)])
    assert (len(found.redirections), len(found.conflicts)) == (MAX_REDIRECTIONS, 2)


@given(
    st.lists(
        st.builds(
            lambda name, port, target, age: service(
                name, {"port": port, "targetPort": target}, age=age
            ),
            st.sampled_from("abcd"),
            st.integers(1, 3),
            st.integers(1, 3),
            st.integers(0, 2),
        ),
        max_size=6,
    ),
    st.lists(st.integers(1, 3), max_size=2),
)
def test_each_port_has_one_meaning_whatever_the_order(
    services: list[Object], declared: list[int]
) -> None:
    pod_ = web(*({"containerPort": port} for port in declared))
    found = mapped(pod_, services)
    ports = [item.port for item in found.redirections]
    assert len(set(ports)) == len(ports)
    assert not set(ports) & set(declared)
    assert all(item.port != item.target_port for item in found.redirections)
    distinct = {service["metadata"]["name"] for service in services}
    if len(distinct) == len(services):
        assert mapped(pod_, services[::-1]) == found


KUBERNETES = {
    "metadata": {"namespace": "default", "name": "kubernetes", "resourceVersion": "1"},
    "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]},
}


def test_the_api_servers_own_service_leads_there() -> None:
    found = api_forwarding(KUBERNETES, server="https://10.77.0.1:6443")
    assert found == (
        Forwarding(address="10.96.0.1", port=443, to_address="10.77.0.1", to_port=6443),
    )
    assert api_forwarding(KUBERNETES, server="https://ctl:6443") == ()
    assert api_forwarding(KUBERNETES, server="https://[fd00::1]:6443") == ()
    assert api_forwarding(None, server="https://10.77.0.1:6443") == ()


async def connected(world: World, **changes: Any) -> FakeSession:
    session = await running(world, metadata={"labels": LABELS}, **changes)
    world.record().ip, world.record().host_ip = "10.78.1.5", "10.77.0.11"
    return session


async def test_a_pod_is_told_of_services_and_of_each_change_once(world: World) -> None:
    session = await connected(world)
    world.services.api = KUBERNETES
    world.services.items = [service("web", {"port": 80, "targetPort": 8080})]
    await world.sync(times=3)
    api = api_forwarding(KUBERNETES, server="https://10.77.0.1:6443")
    first = Update(services=(Redirection(port=80, target_port=8080),), forwardings=api)
    assert session.sent == [first]
    world.services.items = [service("web", {"port": 81, "targetPort": 8080})]
    await world.sync(times=2)
    second = replace(first, services=(Redirection(port=81, target_port=8080),))
    assert session.sent == [first, second]
    # Another connection knows nothing yet.
    again = FakeSession()
    world.record().session = again
    await world.sync(times=2)
    assert again.sent == [second]
    world.live()["metadata"]["labels"] = {}
    await world.sync()
    assert again.sent[1:] == [Update(forwardings=api)]


async def test_before_services_are_known_nothing_is_said(world: World) -> None:
    session = await connected(world)
    world.services.known = False
    await world.sync()
    assert session.sent == []


async def test_a_conflict_is_reported_once(world: World) -> None:
    await connected(world)
    world.services.items = [
        service("old", {"port": 80, "targetPort": 8080}),
        service("web", {"port": 80, "targetPort": 9090}, age=1),
    ]
    await world.sync(times=3)
    world.record().session = FakeSession()
    await world.sync()
    assert world.events.reasons().count("ServicePortConflict") == 1
    reported = world.events.emitted[-1]
    assert "Service web maps port 80/TCP to 9090, but Service old" in reported[2]


async def test_a_pod_in_its_nodes_network_is_warned(world: World) -> None:
    session = await connected(world)
    world.record().ip = "10.77.0.11"
    world.services.items = [service("web", {"port": 80, "targetPort": 8080}, {"port": 8080})]
    await world.sync(times=2)
    assert session.sent == []
    assert world.events.reasons().count("ServicePortIgnored") == 1
    assert "port 80/TCP to 8080" in world.events.emitted[-1][2]


async def test_a_supervisor_that_does_not_listen_is_told_again(world: World) -> None:
    class Deaf(FakeSession):
        async def send(self, message: Any) -> None:
            raise ConnectionResetError

    await connected(world)
    world.services.items = [service("web", {"port": 80, "targetPort": 8080})]
    session: FakeSession = Deaf()
    world.record().session = session
    await world.sync()
    assert session.told is None
    world.record().session = session = FakeSession()
    await world.sync()
    assert session.sent == [Update(services=(Redirection(port=80, target_port=8080),))]


def test_the_watch_knows_services_by_namespace() -> None:
    heard: list[str | None] = []
    api: Any = None
    watch = ServiceWatch(api, on_change=heard.append)
    assert not watch.known
    watch._reflector._replace([service("web"), KUBERNETES])
    assert watch.known
    assert [item["metadata"]["name"] for item in watch.of("alice")] == ["web"]
    assert watch.of("bob") == []
    assert watch.api_service() == KUBERNETES
    watch._reflector._replace([KUBERNETES])
    assert watch.of("alice") == []
    assert heard == ["alice", None, "alice"]
