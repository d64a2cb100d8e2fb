"""Real Helm installs, upgrades and rolls back charts in the shapes that public ones have."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e import pods
from tests.e2e.conftest import ADMIN, Lab
from tests.tools import helm

from slurmlab.names import Lab as Place

CHARTS = Path(__file__).parent / "charts"
AT_ONCE = 5
"""Charts, each of two or three pods: the lab's other tests need processors, too."""
USERS = {"helm 3": "alice", "helm 4": "bob"}
BY_ADMIN = frozenset({"argo", "ingress", "operator"})
"""Charts with rights or webhooks, which users may not make."""
CLIENT = "helm-client"

LOOKS: Mapping[str, str] = {
    "web-shop": "wget -qO- http://{release}",
    "database": "wget -qO- http://{release}-db-1.{release}-members:15432",
    "ingress": "wget -qO- http://{release}-controller",
    "dask": "wget -qO- http://{release}-scheduler",
    "spark": "wget -qO- http://{release}-driver:4040",
    "jupyterhub": "wget -qO- http://{release}-proxy-public",
    "argo": "wget -qO- http://{release}-server:2746",
    "mpi": "kubectl logs -l job-name={release}-launcher-{version}",
    "operator": "kubectl create configmap refused --dry-run=server -o yaml | kubectl label"
    " --local -f - operator={release} -o yaml | kubectl create -f - 2>&1",
    "report": "kubectl logs job/{release}-after",
}
"""What a client of each chart does: a command in a pod, or kubectl on the login node."""
SAID: Mapping[str, str] = {
    "web-shop": "web-shop {version}",
    "database": "database {version} of {release}-db-1",
    "ingress": "ingress {version}",
    "dask": "dask {version} complete",
    "spark": "spark {version} complete",
    "jupyterhub": "jupyterhub {version}",
    "argo": "argo {version} sees pods: True",
    "mpi": "mpi {version} ranks {release}-worker-0 {release}-worker-1",
    "operator": "operator {version} refuses",
    "report": "report {version}",
}


@dataclass(slots=True)
class Story:
    """What came of a chart: its Services' types and addresses, and the first thing that failed."""

    services: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One chart, installed by one Helm."""

    lab: Lab
    program: str
    chart: str
    directory: Path

    @property
    def user(self) -> str:
        return USERS[self.program]

    @property
    def name(self) -> str:
        return f"{self.chart}-h{self.program[-1]}"

    def helm(self, *arguments: str) -> None:
        owner = "root" if self.chart in BY_ADMIN else self.user
        helm.run(
            self.program,
            *arguments,
            kubeconfig=self.directory / owner,
            namespace=self.user,
            home=self.directory / "home" / self.name,
            inside=("nsenter", f"--net={Place(name=self.lab.name).hub}"),
        )

    def change(self, verb: str, *arguments: str) -> None:
        self.helm(verb, self.name, *arguments, "--wait", "--timeout=300s")

    def look(self, version: str) -> None:
        """Until a client sees that version."""
        words = {"release": self.name, "version": version}
        command, wanted = LOOKS[self.chart].format(**words), SAID[self.chart].format(**words)
        argv = ["sh", "-c", command]
        if "kubectl" not in command:
            argv = ["timeout", "60", "srun", f"--k8s-pod={self.user}/{CLIENT}", *argv]
        pods.until(
            lambda: self.lab.run("ctl", argv, user=self.user, check=False, timeout=90).stdout,
            lambda said: wanted in said,
            seconds=100,
            what=f"{self.name}: {wanted}",
        )

    def services(self) -> list[str]:
        path = (
            "jsonpath={range .items[*]}{.metadata.name} {.spec.type} {.spec.clusterIP}{'\\n'}{end}"
        )
        said = self.lab.kubectl(self.user, "get", "services", "-o", path).stdout
        lines = [" ".join(line.split()) for line in said.splitlines()]
        return [line for line in lines if line.startswith(self.name)]

    def tell(self) -> Story:
        """Install, upgrade, roll back, remove."""
        story = Story()
        chart = self.directory / "charts" / self.chart
        try:
            self.change("install", str(chart))
            story.services = self.services()
            self.look("one")
            self.change("upgrade", str(chart), "--set=version=two")
            self.look("two")
            self.change("rollback", "1")
            self.look("one")
            assert self.services() == story.services
        except (AssertionError, subprocess.TimeoutExpired) as error:
            story.problem = str(error)
        self.helm("uninstall", self.name, "--ignore-not-found")
        return story


Stories = Mapping[tuple[str, str], Story]


@pytest.fixture(scope="module")
def stories(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stories]:
    directory = tmp_path_factory.mktemp("helm")
    for user in ("alice", "bob", "root"):
        path = ADMIN if user == "root" else f"/home/{user}/.kube/config"
        (directory / user).touch(mode=0o600)
        (directory / user).write_text(lab.run("ctl", ["cat", path]).stdout)
    for chart in SAID:
        copy = directory / "charts" / chart
        shutil.copytree(CHARTS / chart, copy)
        for shared in CHARTS.glob("*.py"):
            shutil.copy(shared, copy)
    sleep = "trap 'exit 0' TERM; while :; do sleep 0.5; done"
    for user in USERS.values():
        pods.delete(lab, CLIENT, user=user)
        pods.create(lab, pods.manifest(CLIENT, "sh", "-c", sleep), user=user)
        lab.kubectl(user, "wait", "--for=condition=Ready", f"pod/{CLIENT}", "--timeout=100s")
    releases = {
        (program, chart): Release(lab=lab, program=program, chart=chart, directory=directory)
        for chart in SAID
        for program in USERS
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = dict(zip(releases, pool.map(Release.tell, releases.values()), strict=True))
    yield told
    for user in USERS.values():
        lab.kubectl(user, "delete", "jobs", "--all", "--timeout=120s")
        pods.delete(lab, CLIENT, user=user)


@pytest.mark.claim("W14")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("chart", SAID)
@pytest.mark.parametrize("program", USERS)
def test_a_chart_is_installed_upgraded_and_rolled_back(
    stories: Stories, program: str, chart: str
) -> None:
    story = stories[program, chart]
    assert story.problem == ""
    assert all(line.endswith("ClusterIP None") for line in story.services), story.services
    assert story.services or chart == "report"
