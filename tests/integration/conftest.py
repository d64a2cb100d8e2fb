"""A real API server on loopback for every integration test."""

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurmlet.controlplane import build, golang
from slurmlet.controlplane.certificates import KUBELET_CLIENT_GROUP, Request
from slurmlet.controlplane.run import ControlPlane, local_config

BINARIES: pytest.StashKey[Path] = pytest.StashKey()
USERS = ("alice", "bob")
KUBECTL_TIMEOUT_S = 30

RBAC = """
apiVersion: v1
kind: Namespace
metadata: {name: USER}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: USER-edits, namespace: USER}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: USER}]
---
"""

KUBELET_CLIENTS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: slurmlet-kubelet-api-clients}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:kubelet-api-admin}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: GROUP}]
""".replace("GROUP", KUBELET_CLIENT_GROUP)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds before the first test: a cold build takes longer than any test may."""
    wanted = {"binaries", "control_plane"}
    if session.config.option.collectonly:
        return
    if any(wanted & set(getattr(item, "fixturenames", ())) for item in session.items):
        session.config.stash[BINARIES] = _build()


def _build() -> Path:
    def report(line: str) -> None:
        print(line, file=sys.__stderr__, flush=True)

    cache = build.cache_root()
    find_go = functools.partial(golang.find, cache=cache, report=report)
    return build.ensure([], cache=cache, source=build.source_root(), find_go=find_go, report=report)


@pytest.fixture(scope="session")
def binaries(pytestconfig: pytest.Config) -> Path:
    """Directory of kube-apiserver, kube-controller-manager, etcd and kubectl."""
    return pytestconfig.stash[BINARIES]


@pytest.fixture(scope="session")
def control_plane(
    binaries: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """An API server with namespaces alice and bob, each editable by its user.

    `admin_conf`, `user_conf("alice")` and `config.pki_dir` hold the credentials.
    """
    config = local_config(
        tmp_path_factory.mktemp("control-plane"),
        bin_dir=binaries,
        ports=(0, 0, 0, 0),
        fsync=False,
    )
    request = Request(sans=("127.0.0.1",), nodes=("slurm", "slurm-cpu", "slurm-debug"), users=USERS)
    with ControlPlane(config, request, report=print) as plane:
        _kubectl(
            plane, "admin", "apply", "-f", "-", stdin="".join(map(_rbac, USERS)) + KUBELET_CLIENTS
        )
        yield plane


@pytest.fixture(scope="session")
def kubectl(control_plane: ControlPlane) -> Callable[..., str]:
    """kubectl(USER, *arguments, stdin=None, fails=False) → its output; USER may be admin, and None
    for fails takes either outcome."""
    return functools.partial(_kubectl, control_plane)


def _kubectl(
    plane: ControlPlane, user: str, *arguments: str, stdin: str = "", fails: bool | None = False
) -> str:
    kubeconfig = plane.admin_conf if user == "admin" else plane.user_conf(user)
    done = subprocess.run(
        [plane.config.bin_dir / "kubectl", f"--kubeconfig={kubeconfig}", *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=KUBECTL_TIMEOUT_S,
        check=False,
    )
    assert fails is None or (done.returncode != 0) == fails, done.stdout
    return done.stdout


def _rbac(user: str) -> str:
    return RBAC.replace("USER", user)
