"""What people and nodes may do on the API server."""

import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmlet.controlplane.binaries import KUBERNETES_VERSION
from slurmlet.controlplane.run import ControlPlane

Kubectl = Callable[..., str]

OBJECTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: registry.lab:5000/web}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: once, image: registry.lab:5000/busybox}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
"""


@pytest.mark.claim("F4")
def test_objects_created_as_alice_are_worked_on_by_the_controllers(kubectl: Kubectl) -> None:
    kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=OBJECTS)
    kubectl("alice", "-n", "alice", "wait", "--for=create", "pod", "-l", "app=web", "--timeout=20s")
    condition = "--for=jsonpath={.status.replicas}=2"
    kubectl("alice", "-n", "alice", "wait", condition, "deployment/web", "--timeout=20s")
    kubectl("alice", "-n", "alice", "wait", "--for=create", "pod", "-ljob-name=once")
    pods = json.loads(kubectl("alice", "-n", "alice", "get", "pods", "-o", "json"))["items"]
    assert len(pods) == 3
    assert {pod["status"]["phase"] for pod in pods} == {"Pending"}
    assert (
        kubectl("alice", "-n", "alice", "apply", "-f", "-", stdin=OBJECTS).count("unchanged") == 4
    )


@pytest.mark.claim("F4")
@pytest.mark.parametrize(
    "arguments",
    [
        ("-n", "alice", "get", "pods"),
        ("-n", "alice", "get", "secrets"),
        ("-n", "alice", "create", "configmap", "intruder"),
        ("-n", "kube-system", "get", "pods"),
        ("get", "nodes"),
        ("create", "namespace", "more"),
    ],
)
def test_bob_is_denied_outside_his_namespace(kubectl: Kubectl, arguments: tuple[str, ...]) -> None:
    assert "orbidden" in kubectl("bob", *arguments, fails=True)


def test_bob_may_work_in_his_own(kubectl: Kubectl) -> None:
    kubectl("bob", "-n", "bob", "create", "configmap", "mine")
    assert "mine" in kubectl("bob", "-n", "bob", "get", "configmaps")
    kubectl("bob", "-n", "bob", "delete", "configmap", "mine")


def test_server_and_client_are_the_pinned_version(kubectl: Kubectl) -> None:
    versions = json.loads(kubectl("admin", "version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == KUBERNETES_VERSION
    assert versions["clientVersion"]["gitVersion"] == KUBERNETES_VERSION


def node(name: str) -> str:
    return f"apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n"


def test_the_node_may_register_itself_and_no_other(
    control_plane: ControlPlane, kubectl: Kubectl
) -> None:
    pki = control_plane.config.pki_dir
    as_node = (
        f"--client-certificate={pki}/node-slurm.crt",
        f"--client-key={pki}/node-slurm.key",
        f"--certificate-authority={pki}/ca.crt",
        f"--server={control_plane.server}",
        "--kubeconfig=/dev/null",
    )
    kubectl("admin", *as_node, "create", "-f", "-", stdin=node("slurm"))
    refusal = kubectl("admin", *as_node, "create", "-f", "-", stdin=node("other"), fails=True)
    assert "is not allowed to modify node" in refusal
    secrets = kubectl("admin", *as_node, "-n", "alice", "get", "secrets", fails=True)
    assert "Forbidden" in secrets
    kubectl("admin", "delete", "node", "slurm")


def test_the_api_server_wants_a_known_identity(kubectl: Kubectl) -> None:
    anonymous = ("--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--token=invalid")
    server = json.loads(kubectl("admin", "config", "view", "-o", "json"))["clusters"][0]
    url = server["cluster"]["server"]
    answer = kubectl("admin", *anonymous, f"--server={url}", "get", "pods", fails=True)
    assert "logged in" in answer or "Unauthorized" in answer


def etcd_answers(plane: ControlPlane, certificate: Path | None, key: Path | None) -> bool:
    """Whether etcd serves a client with this certificate."""
    import socket

    context = ssl.create_default_context(cafile=str(plane.config.pki_dir / "ca.crt"))
    if certificate and key:
        context.load_cert_chain(certificate, key)
    address = ("127.0.0.1", plane.config.etcd_client_port)
    try:
        with (
            socket.create_connection(address, timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as channel,
        ):
            channel.sendall(
                b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            return channel.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def test_etcd_serves_the_api_server_and_no_user(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    from slurmlet.controlplane import kubeconfig

    pki = control_plane.config.pki_dir
    alice_certificate, alice_key = tmp_path / "alice.crt", tmp_path / "alice.key"
    pair = kubeconfig.client_pair(control_plane.user_conf("alice").read_text())
    alice_certificate.write_bytes(pair[0])
    alice_key.write_bytes(pair[1])
    client = pki / "apiserver-etcd-client.crt", pki / "apiserver-etcd-client.key"
    assert etcd_answers(control_plane, *client)
    assert not etcd_answers(control_plane, alice_certificate, alice_key)
    assert not etcd_answers(control_plane, pki / "admin.crt", pki / "admin.key")
    assert not etcd_answers(control_plane, pki / "kubelet.crt", pki / "kubelet.key")
    assert not etcd_answers(control_plane, None, None)
