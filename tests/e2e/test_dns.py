"""The pods' network between nodes, and names of Services."""

import ipaddress
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab boots nodes: run as root"),
]
SERVER = "10.77.0.1"
NODES = {"ctl": "10.77.0.1", "c1": "10.77.0.11", "c2": "10.77.0.12"}
RANGES = {"c1": "10.78.1.0/24", "c2": "10.78.2.0/24"}
PROTOCOL = "78"
API = "10.96.0.1"
"""Address of the Service default/kubernetes, which pods' networks lead to the API server."""
NAME = "names"
SLEEPER = 'trap "exit 0" TERM; while true; do sleep 0.2; done'

ASK = """
import socket, struct, sys
server, name, tcp = sys.argv[1:]
labels = b"".join(bytes([len(word)]) + word.encode() for word in name.split("."))
question = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\\0" + struct.pack(">2H", 1, 1)
if tcp == "tcp":
    with socket.create_connection((server, 53), timeout=5) as link:
        link.sendall(struct.pack(">H", len(question)) + question)
        answer = link.recv(4096)[2:]
else:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.settimeout(5)
    link.sendto(question, (server, 53))
    answer = link.recv(4096)
code, count = answer[3] & 15, struct.unpack(">H", answer[6:8])[0]
records = answer[len(question):]
addresses = []
for _ in range(count):
    rest = records[records.index(b"\\0\\1\\0\\1"):] if records[0] < 192 else records[2:]
    size = struct.unpack(">H", rest[8:10])[0]
    addresses.append(socket.inet_ntoa(rest[10:10 + size]))
    records = rest[10 + size:]
print({0: "", 3: "NXDOMAIN"}.get(code, code), *sorted(addresses))
"""


def ask(lab: Lab, node: str, name: str, *, how: str = "udp") -> str:
    """Addresses that the DNS server gives for a name to who asks on a node, or NXDOMAIN."""
    argv = ["python3", "-", SERVER, name, how]
    return lab.run(node, argv, input=ASK).stdout.strip()


def routes(lab: Lab, node: str) -> dict[str, str]:
    """Range → gateway, empty where it is this node's own, of the routes that are ours."""
    shown = lab.run(node, ["ip", "-json", "route", "show", "protocol", PROTOCOL]).stdout
    return {route["dst"]: route.get("gateway", "") for route in json.loads(shown or "[]")}


def wanted(node: str) -> dict[str, str]:
    return {found: NODES[at] if at != node else "" for at, found in RANGES.items()}


@pytest.fixture(scope="module")
def web(lab: Lab) -> Iterator[dict[str, Any]]:
    """A pod that is ready behind the headless Service of its name."""
    pod = pods.manifest(NAME, "sh", "-c", SLEEPER)
    pod["metadata"]["labels"] = {"app": NAME}
    spec = {"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": 8080}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": spec}
    pods.create(lab, pod, service)
    yield pods.wait_for_phase(lab, NAME, "Running")
    lab.kubectl("alice", "delete", "service", NAME, "--ignore-not-found")
    pods.delete(lab, NAME)


@pytest.mark.claim("N10")
def test_a_service_is_known_by_the_addresses_of_its_ready_pods(
    lab: Lab, web: dict[str, Any]
) -> None:
    address = web["status"]["podIP"]
    name = f"{NAME}.alice.svc.cluster.local"
    for node in ("ctl", "c1"):
        pods.until(
            lambda node=node: ask(lab, node, name),  # type: ignore[misc]
            lambda said: said == address,
            seconds=20,
            what=f"{name} asked on {node}",
        )
    assert ask(lab, "c2", name, how="tcp") == address
    lab.kubectl("alice", "delete", "pod", NAME, "--timeout=60s")
    pods.until(
        lambda: ask(lab, "c1", name), lambda said: said in ("", "NXDOMAIN"), seconds=20, what=name
    )


@pytest.mark.claim("N10")
def test_the_api_server_has_its_name_and_other_names_do_not_exist(lab: Lab) -> None:
    assert ask(lab, "c1", "kubernetes.default.svc.cluster.local") == API
    assert ask(lab, "c1", "none.alice.svc.cluster.local") == "NXDOMAIN"
    started = time.monotonic()
    assert ask(lab, "c1", "example.org") == "NXDOMAIN"
    assert time.monotonic() - started < 5, "it is an answer, not silence"


@pytest.mark.claim("N10")
def test_the_dns_server_may_read_names_and_nothing_else(lab: Lab) -> None:
    def may(verb: str, what: str) -> bool:
        argv = ["auth", "can-i", verb, what, "--all-namespaces", "--as=slurmlet:dns"]
        return lab.kubectl("root", *argv, check=False).stdout.strip() == "yes"

    assert may("watch", "endpointslices.discovery.k8s.io")
    assert not may("list", "secrets")
    assert not may("update", "services")
    shown = lab.run("ctl", ["ps", "-o", "user=", "-C", "coredns"]).stdout.split()
    assert len(shown) == 1
    assert shown[0] not in ("root", "slurmlet")


@pytest.mark.disruptive
def test_the_dns_server_comes_back_and_knows_what_came_meanwhile(lab: Lab) -> None:
    lab.run("ctl", ["systemctl", "kill", "--signal=KILL", "slurmlet-dns"])
    pods.until(
        lambda: lab.run("ctl", ["systemctl", "is-active", "slurmlet-dns"], check=False).stdout,
        lambda said: said.strip() == "active",
        seconds=20,
        what="slurmlet-dns",
    )
    pods.until(
        lambda: lab.run("ctl", ["curl", "-sf", "http://127.0.0.1:10281/ready"], check=False).stdout,
        lambda said: said == "OK",
        seconds=20,
        what="the DNS server",
    )
    assert ask(lab, "c2", "kubernetes.default.svc.cluster.local") == API


@pytest.mark.claim("N11")
def test_every_node_has_routes_to_the_pods_of_all_nodes(lab: Lab) -> None:
    for node in NODES:
        assert routes(lab, node) == wanted(node)
        forwarding = lab.run(node, ["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout.strip()
        assert forwarding == ("1" if node in RANGES else "0")
    unused = str(ipaddress.ip_network(RANGES["c1"])[200])
    assert lab.run("c1", ["ip", "route", "get", unused], check=False).returncode != 0
    assert "via 10.77.0.11" in lab.run("c2", ["ip", "route", "get", unused]).stdout


@pytest.mark.disruptive
@pytest.mark.claim("N11")
def test_a_restart_of_the_routes_removes_what_we_no_longer_want(lab: Lab) -> None:
    mine = ["10.99.0.0/24", "via", NODES["c2"]]
    lab.run("c1", ["ip", "route", "add", *mine, "protocol", PROTOCOL])
    lab.run("c1", ["ip", "route", "add", "10.99.1.0/24", *mine[1:], "protocol", "static"])
    try:
        lab.run("c1", ["systemctl", "restart", "slurmlet-routes"])
        assert routes(lab, "c1") == wanted("c1")
        assert "10.99.1.0/24" in lab.run("c1", ["ip", "route"]).stdout, "it is somebody else's"
    finally:
        lab.run("c1", ["ip", "route", "del", "10.99.1.0/24"], check=False)


@pytest.mark.disruptive
@pytest.mark.claim("N12")
def test_the_doctor_finds_what_is_wrong_and_nothing_when_all_is_well(lab: Lab) -> None:
    def doctor(node: str, *options: str) -> tuple[int, str]:
        done = lab.run(node, ["slurmlet", "doctor", *options], check=False)
        return done.returncode, done.stdout

    for node in NODES:
        code, text = doctor(node, "--dns", SERVER)
        assert (code, "problem: " in text) == (0, False), text
    lab.run("c1", ["systemctl", "stop", "slurmlet-routes"])
    try:
        code, text = doctor("c1")
        assert code == 1
        assert "there is no route to the pods at 10.78.2.0/24" in text
    finally:
        lab.run("c1", ["systemctl", "start", "slurmlet-routes"])
    code, text = doctor("c2", "--dns", NODES["c1"])
    assert code == 1
    assert f"DNS server {NODES['c1']}" in text
    lab.run("ctl", ["tee", "/etc/exports"], input="/home 10.0.0.0/8(rw,sync)\n")
    try:
        code, text = doctor("ctl")
        assert code == 1
        assert "/home is exported to 10.0.0.0/8" in text
    finally:
        lab.run("ctl", ["rm", "/etc/exports"])


@pytest.mark.disruptive
@pytest.mark.claim("N11")
@pytest.mark.timeout(240)
def test_the_network_is_back_after_a_reboot(lab: Lab) -> None:
    """A node of the lab keeps its network namespace: what is to come back is taken away first."""
    boot = lab.run("c2", ["cat", "/proc/1/stat"]).stdout.split()[21]
    lab.run("c2", ["sysctl", "--write", "net.ipv4.ip_forward=0"])
    lab.run("c2", ["systemctl", "stop", "slurmlet-routes"])
    assert routes(lab, "c2") == {}
    lab.run("c2", ["systemctl", "reboot"], check=False)
    pods.until(
        lambda: lab.run("c2", ["cut", "-d ", "-f22", "/proc/1/stat"], check=False).stdout.strip(),
        lambda said: said not in ("", boot),
        seconds=90,
        what="boot of c2",
    )
    pods.until(
        lambda: lab.run("c2", ["systemctl", "is-system-running"], check=False).stdout.strip(),
        lambda said: said in ("running", "degraded"),
        seconds=60,
        what="services of c2",
    )
    assert routes(lab, "c2") == wanted("c2")
    assert lab.run("c2", ["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout.strip() == "1"
    argv = ["timeout", "60", "srun", "-w", "c2", "hostname"]
    assert lab.run("ctl", argv, user="alice", timeout=90).stdout == "c2\n"
