"""Pods on the network: addresses, ports, names, Services and the API server."""

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab

TOOLS = "registry.lab:5000/toolbox:1.0"
WEB = "registry.lab:5000/web:1.0"
RANGES = {"c1": "10.78.1.0/24", "c2": "10.78.2.0/24"}
ADDRESSES = {"c1": "10.77.0.11", "c2": "10.77.0.12"}
SERVE = 'echo "from $(hostname)" >/tmp/index.html; exec httpd -f -v -p {port} -h /tmp'
IDLE = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")
ECHO = """
import socket
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.bind(("", 7001))
while True:
    data, peer = here.recvfrom(100)
    here.sendto(b"echo " + data, peer)
"""
ASK = """
import socket, sys
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to.settimeout(5)
to.connect((sys.argv[1], 7000))
to.send(b"hello")
print(to.recv(100).decode())
"""
NAMES = ("net-a", "net-b", "net-c", "net-h")
CONFIG = "/etc/slurmlet/slurmlet.toml"


def on(node: str, **more: str) -> dict[str, str]:
    other = "c2" if node == "c1" else "c1"
    return {"slurmlet.io/flags": f"--exclude={other}", **more}


def serving(name: str, *, port: int = 80, container: Any = None, **changes: Any) -> dict[str, Any]:
    made = pods.manifest(
        name, "sh", "-c", SERVE.format(port=port), container=container or {}, **changes
    )
    made["metadata"]["labels"] = {"app": name}
    return made


def service(name: str, *ports: dict[str, Any], app: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": list(ports)},
    }


def deployment(name: str) -> dict[str, Any]:
    container = {
        "name": "web",
        "image": WEB,
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "1", "memory": "64Mi"}},
    }
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 2},
            },
        },
    }


def clean(lab: Lab) -> None:
    lab.kubectl("alice", "delete", "deployment,service", "net-web", "net-c", "net-new", "net-h",
                "--ignore-not-found", "--timeout=60s")  # fmt: skip
    pods.delete(lab, *NAMES)
    lab.kubectl("alice", "wait", "--for=delete", "pod", "-l", "app=net-web", "--timeout=100s")


@pytest.fixture(scope="module")
def net(lab: Lab) -> Iterator[dict[str, dict[str, Any]]]:
    """net-a (crun, not root, two containers) and net-b (apptainer) on c1, net-c on c2, net-h in
    the network of c1, and the Deployment and Service net-web."""
    clean(lab)
    first = serving(
        "net-a",
        annotations=on("c1", **{"slurmlet.io/engine": "crun"}),
        container={
            "securityContext": {"runAsUser": 1000},
            "env": [
                {"name": f"MY_{kind.upper()}", "valueFrom": {"fieldRef": {"fieldPath": path}}}
                for kind, path in (("pod", "status.podIP"), ("host", "status.hostIP"))
            ],
        },
        hostname="able",
        subdomain="group",
        hostAliases=[{"ip": "192.0.2.7", "hostnames": ["elsewhere"]}],
        dnsConfig={"searches": ["lab.example"], "options": [{"name": "ndots", "value": "3"}]},
    )
    first["spec"]["containers"].append(
        pods.manifest("x", *IDLE)["spec"]["containers"][0] | {"name": "side"}
    )
    second = serving("net-b", annotations=on("c1", **{"slurmlet.io/engine": "apptainer"}))
    third = pods.manifest(
        "net-c", "python3", "-uc", ECHO, annotations=on("c2"), container={"image": TOOLS}
    )
    third["metadata"]["labels"] = {"app": "net-c"}
    host = serving("net-h", port=18080, annotations=on("c1"), hostNetwork=True)
    pods.create(
        lab,
        *(first, second, third, host, deployment("net-web")),
        service("net-web", {"port": 80, "targetPort": "http"}, app="net-web"),
        service("net-c", {"port": 7000, "targetPort": 7001, "protocol": "UDP"}, app="net-c"),
    )
    names = [f"pod/{name}" for name in NAMES]
    lab.kubectl("alice", "wait", "--for=condition=Ready", *names, "--timeout=110s")
    lab.kubectl("alice", "wait", "--for=condition=Available", "deployment/net-web",
                "--timeout=110s")  # fmt: skip
    yield pods.get_all(lab, NAMES)
    clean(lab)


def inside(lab: Lab, pod: str, script: str) -> str:
    """What a shell in a pod prints."""
    argv = ["timeout", "60", "srun", f"--k8s-pod=alice/{pod}", "sh", "-c", script]
    return lab.run("ctl", argv, user="alice", timeout=90).stdout


def ip(pod: dict[str, Any]) -> str:
    return str(pod["status"]["podIP"])


def web_pods(lab: Lab) -> list[dict[str, Any]]:
    out = lab.kubectl("alice", "get", "pods", "-l", "app=net-web", "-o", "json").stdout
    return list(json.loads(out)["items"])


def events(lab: Lab, pod: str, reason: str) -> list[str]:
    fields = f"involvedObject.name={pod},reason={reason}"
    argv = ["get", "events", "--field-selector", fields, "-o", "json"]
    return [item["message"] for item in json.loads(lab.kubectl("alice", *argv).stdout)["items"]]


@pytest.mark.claim("N20")
def test_a_pod_has_an_address_of_its_nodes_range(lab: Lab, net: dict[str, dict[str, Any]]) -> None:
    for name, node in (("net-a", "c1"), ("net-b", "c1"), ("net-c", "c2")):
        status = net[name]["status"]
        assert ipaddress.ip_address(status["podIP"]) in ipaddress.ip_network(RANGES[node])
        assert status["hostIP"] == ADDRESSES[node]
        assert f"inet {ip(net[name])}/" in inside(lab, name, "ip addr show dev eth0")
    assert len({ip(pod) for pod in net.values()}) == len(net)
    assert inside(lab, "net-a", "echo $MY_POD $MY_HOST").split() == [
        ip(net["net-a"]),
        ADDRESSES["c1"],
    ]
    wide = lab.kubectl("alice", "get", "pod", "net-a", "-o", "wide").stdout
    assert ip(net["net-a"]) in wide


@pytest.mark.claim("N20")
def test_a_pod_that_asks_for_it_has_its_nodes_network(
    lab: Lab, net: dict[str, dict[str, Any]]
) -> None:
    assert ip(net["net-h"]) == ADDRESSES["c1"]
    assert inside(lab, "net-h", "hostname").strip() == "c1"
    fetched = lab.run("ctl", ["curl", "-s", f"http://{ADDRESSES['c1']}:18080"]).stdout
    assert fetched == "from c1\n"


@pytest.mark.claim("N21")
@pytest.mark.parametrize("client", ["net-b", "net-c"])
def test_pods_reach_each_other_by_their_own_addresses(
    lab: Lab, net: dict[str, dict[str, Any]], client: str
) -> None:
    """On one node and across nodes; the server sees who it was."""
    fetch = f"wget -qO- http://{ip(net['net-a'])} || curl -s http://{ip(net['net-a'])}"
    assert inside(lab, client, fetch) == "from able\n"
    pods.until(
        lambda: lab.kubectl("alice", "logs", "net-a", "-c", "main").stdout,
        lambda text: f"{ip(net[client])}]:" in text,
        seconds=20,
        what="the client's address in the server's log",
    )


@pytest.mark.claim("N22")
def test_two_pods_of_one_node_listen_on_port_80(lab: Lab, net: dict[str, dict[str, Any]]) -> None:
    """net-a as a user that is not root, with crun; net-b with Apptainer."""
    for name, host in (("net-a", "able"), ("net-b", "net-b")):
        assert inside(lab, "net-c", f"curl -s http://{ip(net[name])}") == f"from {host}\n"


@pytest.mark.claim("N22")
def test_containers_of_a_pod_share_localhost_ipc_and_name(
    lab: Lab, net: dict[str, dict[str, Any]]
) -> None:
    own = "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts; hostname; ls /dev/shm"
    inside(lab, "net-a", "echo x >/dev/shm/shared")
    main, side, other = (inside(lab, name, own) for name in ("net-a", "net-a:side", "net-b"))
    assert main == side
    assert "shared" in main
    assert not set(main.split()) & set(other.split())
    assert inside(lab, "net-a:side", "wget -qO- http://127.0.0.1") == "from able\n"
    for name in ("net-a", "net-b"):
        assert sorted(inside(lab, name, "ls /sys/class/net").split()) == ["eth0", "lo"]


@pytest.mark.claim("N23")
@pytest.mark.parametrize("client", ["net-b", "net-c"])
def test_a_service_leads_to_its_target_port(
    lab: Lab, net: dict[str, dict[str, Any]], client: str
) -> None:
    fetch = "wget -qO- http://net-web || curl -s http://net-web"
    pods.until(
        lambda: inside(lab, client, fetch),
        lambda text: "a Slurm job" in text,
        seconds=30,
        what=f"the Service from {client}",
    )


@pytest.mark.claim("N23")
def test_udp_is_redirected_too(lab: Lab, net: dict[str, dict[str, Any]]) -> None:
    """The answer comes from the port that was asked: a connected socket takes no other."""
    argv = ["python3", "-c", ASK, ip(net["net-c"])]
    assert lab.run("ctl", argv).stdout == "echo hello\n"


@pytest.mark.claim("N23")
def test_a_pod_reaches_itself_as_others_do(lab: Lab, net: dict[str, dict[str, Any]]) -> None:
    name = web_pods(lab)[0]["metadata"]["name"]
    own = ip(pods.get(lab, name))
    assert "a Slurm job" in inside(lab, name, f"wget -qO- http://{own}:80")


def answers(lab: Lab, address: str, port: int) -> bool:
    """Tell whether a web server answers who asks on the login node."""
    url = f"http://{address}:{port}"
    argv = ["curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", url]
    return lab.run("ctl", argv, check=False).stdout == "200"


def set_port(lab: Lab, service: str, port: int) -> None:
    change = [{"op": "replace", "path": "/spec/ports/0/port", "value": port}]
    lab.kubectl("alice", "patch", "service", service, "--type=json", "-p", json.dumps(change))


@pytest.mark.claim("N23")
def test_the_redirection_follows_the_service(lab: Lab, net: dict[str, dict[str, Any]]) -> None:
    address = ip(web_pods(lab)[0])
    set_port(lab, "net-web", 81)
    try:
        pods.until(lambda: answers(lab, address, 81), bool, seconds=30, what="port 81")
        assert not answers(lab, address, 80)
    finally:
        set_port(lab, "net-web", 80)
    pods.until(lambda: answers(lab, address, 80), bool, seconds=30, what="port 80 again")


@pytest.mark.disruptive
@pytest.mark.claim("N23")
def test_an_agent_that_was_away_tells_its_pods_again(lab: Lab) -> None:
    name = "net-away"
    pods.delete(lab, name)
    lab.kubectl("alice", "delete", "service", name, "--ignore-not-found")
    port = {"port": 80, "targetPort": 8080}
    pods.create(lab, serving(name, port=8080), service(name, port, app=name))
    address = ip(pods.wait_for_phase(lab, name, "Running"))
    try:
        pods.until(lambda: answers(lab, address, 80), bool, seconds=30, what="port 80")
        lab.run("ctl", ["systemctl", "stop", "slurmlet-kubelet"])
        set_port(lab, name, 82)
        lab.run("ctl", ["systemctl", "start", "slurmlet-kubelet"])
        pods.until(lambda: answers(lab, address, 82), bool, seconds=60, what="port 82")
        assert not answers(lab, address, 80)
    finally:
        lab.run("ctl", ["systemctl", "start", "slurmlet-kubelet"])
        lab.kubectl("alice", "delete", "service", name)
        pods.delete(lab, name)


@pytest.mark.claim("N24")
def test_a_conflict_is_an_event_and_harms_nobody(lab: Lab, net: dict[str, dict[str, Any]]) -> None:
    pods.create(lab, service("net-new", {"port": 80, "targetPort": 9090}, app="net-web"))
    name = web_pods(lab)[0]["metadata"]["name"]
    found = pods.until(
        lambda: events(lab, name, "ServicePortConflict"), bool, seconds=30, what="the event"
    )
    wanted = "Service net-new maps port 80/TCP to 9090, but Service net-web maps it to 8080"
    assert found == [wanted]
    assert "a Slurm job" in inside(lab, "net-c", f"curl -s http://{ip(web_pods(lab)[0])}")


@pytest.mark.claim("N24")
def test_in_the_nodes_network_nothing_is_redirected_and_that_is_said(
    lab: Lab, net: dict[str, dict[str, Any]]
) -> None:
    pods.create(lab, service("net-h", {"port": 80, "targetPort": 18080}, app="net-h"))
    found = pods.until(
        lambda: events(lab, "net-h", "ServicePortIgnored"), bool, seconds=30, what="the event"
    )
    assert "port 80/TCP to 18080" in found[0]
    assert lab.run("c1", ["nft", "list", "tables"]).stdout.count("slurmlet-services") == 0


@pytest.mark.claim("N25")
def test_a_services_name_resolves_to_all_its_ready_pods(
    lab: Lab, net: dict[str, dict[str, Any]]
) -> None:
    wanted = sorted(ip(pod) for pod in web_pods(lab))
    assert len(wanted) == 2
    ask = "getent ahostsv4 {} | cut -d' ' -f1 | sort -u"
    for name in ("net-web", "net-web.alice", "net-web.alice.svc.cluster.local"):
        found = pods.until(
            lambda name=name: inside(lab, "net-c", ask.format(name)).split(),  # type: ignore[misc]
            lambda found: len(found) == len(wanted),
            seconds=30,
            what=name,
        )
        assert found == wanted


@pytest.mark.claim("N26")
@pytest.mark.parametrize(
    "server",
    ["$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT", "kubernetes.default.svc:443"],
)
def test_the_token_opens_the_api_server(
    lab: Lab, net: dict[str, dict[str, Any]], server: str
) -> None:
    script = (
        "cd /var/run/secrets/kubernetes.io/serviceaccount;"
        ' curl -sS -m 20 --cacert ca.crt -H "Authorization: Bearer $(cat token)"'
        ' -H "Content-Type: application/json" -X POST'
        ' -d \'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}\''
        f" https://{server}/apis/authentication.k8s.io/v1/selfsubjectreviews"
    )
    answer = json.loads(inside(lab, "net-c", script))
    info = answer["status"]["userInfo"]
    assert info["username"] == "system:serviceaccount:alice:default"
    assert info["extra"]["authentication.kubernetes.io/pod-name"] == ["net-c"]


@pytest.mark.claim("N27")
def test_a_pods_files_have_its_names(lab: Lab, net: dict[str, dict[str, Any]]) -> None:
    resolver, hosts = inside(
        lab, "net-a", "cat /etc/resolv.conf; echo ---; cat /etc/hosts /etc/hostname"
    ).split("---\n")
    cluster = "alice.svc.cluster.local svc.cluster.local cluster.local"
    assert re.match(rf"nameserver 10\.77\.0\.1\nsearch {cluster}.* lab.example\n", resolver)
    assert "options ndots:3" in resolver
    own = f"{ip(net['net-a'])}\table.group.alice.svc.cluster.local\table\n"
    assert own in hosts
    assert "192.0.2.7\telsewhere\n" in hosts
    assert hosts.endswith("able\n")
    assert inside(lab, "net-a", "hostname").strip() == "able"
    node = lab.run("c1", ["cat", "/etc/resolv.conf"], check=False).stdout
    assert "cluster.local" not in inside(lab, "net-h", "cat /etc/resolv.conf") + node


@pytest.mark.disruptive
@pytest.mark.claim("N28")
def test_a_pod_without_a_record_for_the_agent_is_refused(lab: Lab) -> None:
    """A node that signs for somebody else, as a forger would have to."""
    name = "net-forged"
    pods.delete(lab, name)
    lab.run("c2", ["cp", "-a", CONFIG, f"{CONFIG}.kept"])
    try:
        change = 's/^agent_user = .*/agent_user = "bob"/'
        lab.run("c2", ["sed", "-i", change, CONFIG])
        pods.create(lab, pods.manifest(name, "true", annotations=on("c2")))
        ended = pods.wait_for_phase(lab, name, "Failed", "Succeeded")
    finally:
        lab.run("c2", ["mv", f"{CONFIG}.kept", CONFIG])
    assert ended["status"]["reason"] == "FailedCreatePodSandBox"
    assert "the signed record cannot be decoded" in ended["status"]["message"]
    assert "podIP" not in ended["status"]
    assert events(lab, name, "FailedCreatePodSandBox") != []
    job = pods.job_id(ended)
    pods.until(lambda: pods.squeue(lab, job), lambda state: state != "RUNNING", seconds=30,
               what="the job's end")  # fmt: skip
    pods.delete(lab, name)
