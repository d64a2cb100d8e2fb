"""Kubernetes' own specs against the lab: what they expect of a node, pods in it do."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e import people, pods, upstream
from tests.e2e.conftest import ADMIN, ROOT, Lab

from slurmlab.names import REGISTRY
from slurmlab.names import Lab as Place

pytestmark = pytest.mark.disruptive

SLOW = int(os.environ.get("ROUNDS", "3")) >= 50 or bool(os.environ.get("SLOW"))
REPORTS = ROOT / "build" / "conformance"
IDENTITIES = "/etc/slurmlet/identity.toml"
TAINT = "slurmlet.io/slurm"
PROCESSES = 4
"""Specs at a time; they mostly wait."""
BUILD_SECONDS = 1800
"""e2e.test is compiled in four minutes on two cores, its modules for the first time in ten."""
RUN_SECONDS = 1500
"""The slow specs wait for up to four minutes each."""
EVERYONE = """
[namespaces."*"]
user = "alice"
accounts = ["phys"]
sharedTrust = true
"""
IMAGES = {
    "promoterE2eRegistry": f"{REGISTRY}/conformance",
    "gcRegistry": REGISTRY,
}
"""Where e2e.test looks for images: pause is in the second."""


def set_identities(lab: Lab, text: str) -> None:
    """Agent and broker read the map anew when the file is another."""
    aside = f"{IDENTITIES}.new"
    script = f"cat >{aside} && chmod 0644 {aside} && mv {aside} {IDENTITIES}"
    lab.run("ctl", ["sh", "-c", script], input=text)


def upstream_namespaces(lab: Lab) -> list[str]:
    """Namespaces that e2e.test made and that are not gone yet."""
    out = lab.kubectl("root", "get", "namespaces", "-l", "e2e-framework", "-o", "name").stdout
    return out.split()


@pytest.fixture
def open_node(lab: Lab) -> Iterator[None]:
    """Every namespace belongs to somebody, and the virtual node takes every pod."""
    before = lab.run("ctl", ["cat", IDENTITIES]).stdout
    shared = before.replace('user = "alice"\n', 'user = "alice"\nsharedTrust = true\n')
    set_identities(lab, shared + EVERYONE)
    people.wait_until_mapped(lab, "default")
    lab.kubectl("root", "taint", "node", "slurm", f"{TAINT}:NoSchedule-")
    try:
        yield
    finally:
        # Their pods can be ended only while their namespaces belong to somebody.
        lab.kubectl("root", "delete", "namespaces", "-l", "e2e-framework", "--wait=false")
        pods.until(
            lambda: upstream_namespaces(lab),
            lambda found: not found,
            seconds=300,
            what="the end of e2e.test's namespaces",
        )
        lab.kubectl("root", "taint", "node", "slurm", f"{TAINT}=:NoSchedule", "--overwrite")
        set_identities(lab, before)


@pytest.fixture(scope="module")
def programs() -> Path:
    """The directory with e2e.test, ginkgo and kubectl."""
    done = subprocess.run(
        [ROOT / ".venv/bin/slurmlet-controlplane", "build", "e2e.test", "ginkgo", "kubectl"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=BUILD_SECONDS,
        check=True,
    )
    return Path(done.stdout.strip().splitlines()[-1])


def run_specs(lab: Lab, choice: upstream.Choice, *, programs: Path, scratch: Path) -> str:
    """Run ginkgo on the host, in the lab's network; its JUnit report."""
    kubeconfig, images = scratch / "admin.conf", scratch / "images.yaml"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(lab.run("ctl", ["cat", ADMIN]).stdout)
    images.write_text(json.dumps(IMAGES))
    REPORTS.mkdir(parents=True, exist_ok=True)
    junit = REPORTS / "junit.xml"
    junit.unlink(missing_ok=True)
    argv: list[str | Path] = [
        "nsenter",
        f"--net={Place(name=lab.name).hub}",
        programs / "ginkgo",
        f"--procs={PROCESSES}",
        "--no-color",
        "--silence-skips",
        f"--timeout={RUN_SECONDS}s",
        f"--output-dir={REPORTS}",
        f"--junit-report={junit.name}",
        *choice.flags(slow=SLOW),
        programs / "e2e.test",
        "--",
        f"--kubeconfig={kubeconfig}",
        f"--kubectl-path={programs / 'kubectl'}",
        "--provider=skeleton",
        "--dns-domain=cluster.local",
        "--node-os-distro=custom",
        "--disable-log-dump",
        "--dump-logs-on-failure=false",
    ]
    with (REPORTS / "ginkgo.log").open("w") as log:
        subprocess.run(
            argv,
            cwd=scratch,
            env={**os.environ, "KUBE_TEST_REPO_LIST": str(images)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=RUN_SECONDS + 120,
            check=False,
        )
    assert junit.exists(), (REPORTS / "ginkgo.log").read_text()[-4000:]
    return junit.read_text()


@pytest.mark.claim("L40")
@pytest.mark.timeout(BUILD_SECONDS + RUN_SECONDS + 600)
@pytest.mark.usefixtures("open_node")
def test_kubernetes_own_specs_pass_but_for_those_listed(
    lab: Lab, programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = upstream.read_choice(upstream.LIST.read_text())
    specs = upstream.parse(run_specs(lab, choice, programs=programs, scratch=tmp_path))
    with capsys.disabled():
        print("", *upstream.summary(specs, choice), sep="\n")
    found = "\n".join(upstream.problems(specs, choice, slow=SLOW))
    assert not found, f"{found}\n{REPORTS / 'ginkgo.log'}"
