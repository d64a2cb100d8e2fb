"""The demo is the README's second command, so it runs here as a newcomer would run it."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.e2e.conftest import Lab

pytestmark = pytest.mark.disruptive
ROOT = Path(__file__).parents[2]


@pytest.mark.claim("F5")
@pytest.mark.timeout(600)
def test_demo_shows_the_main_job(lab: Lab) -> None:
    try:
        result = subprocess.run(
            [ROOT / "examples" / "demo"],
            env={**os.environ, "LAB": lab.name},
            capture_output=True,
            text=True,
            timeout=580,
            check=False,
        )
    finally:
        own = "deployment,service,job,pod,configmap,secret"
        lab.kubectl("alice", "delete", own, "-l", "slurmlet.io/example", "--timeout=120s")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "None" in result.stdout, "the Service is headless"
    assert result.stdout.count("/alice/worker-") >= 6, "six workers are six jobs"
    assert "Hello from a pod that is a Slurm job." in result.stdout, "the Service by its name"
    assert re.search(r"inet 10\.78\.[12]\.\d+/24", result.stdout), "a step shows the pod's address"
    assert re.search(r"^\d+\.0 +sh ", result.stdout, re.MULTILINE), "sacct has the step"
    assert "The lab is still up" in result.stdout
