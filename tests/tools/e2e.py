"""Runs the e2e tests on one Slurm release: `make e2e-trixie`, `make e2e-sid`, `make soak`.

Modules run side by side on one lab, each from its first test to its last in one process; tests that
are marked `disruptive` run afterwards, one at a time. What is given goes to pytest, both times.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "lab")]

from tests.e2e.conftest import wanted  # noqa: E402

from slurmlab.lab import alive  # noqa: E402
from slurmlab.names import Lab  # noqa: E402

NO_TESTS = 5
"""pytest's exit status where nothing was selected."""
SIDE_BY_SIDE = os.environ.get("SIDE_BY_SIDE") or "4"
"""Modules at a time. They mostly wait; sixteen processors of c1, where many pods go, hold four."""


def lab(command: str, name: str, *options: str) -> int:
    return subprocess.run([ROOT / "lab", command, "--name", name, *options], check=False).returncode


def tests(name: str, *options: str) -> int:
    """Runs a part of the tests on the lab of that name; pytest's exit status."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", str(ROOT / "tests" / "e2e"), *options],
        env={**os.environ, "SLURMLET_LAB": name, "PYTHONUNBUFFERED": "1"},
        check=False,
    ).returncode


def main(given: Sequence[str]) -> int:
    name, suite = wanted()
    stays = alive(Lab(name=name))
    if status := lab("up", name, "--slurm", suite):
        return status
    parallel = ("-n", SIDE_BY_SIDE, "--dist", "loadfile", "--no-loadscope-reorder")
    done = [
        tests(name, *parallel, "-m", "not disruptive", *given),
        tests(name, "-m", "disruptive", *given),
    ]
    failed = [status for status in done if status not in (0, NO_TESTS)]
    if failed or 0 not in done:
        return (failed or done)[0]
    return 0 if stays else lab("down", name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
