"""Runs the e2e tests on one Slurm release: `make e2e-trixie`, `make e2e-sid`, `make soak`.

Modules run side by side on one lab, each from its first test to its last in one process; tests that
are marked `disruptive` run one at a time, at the same time as the others on a lab of their own, or
after them where there is one lab. What is given goes to pytest, each time.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
QUIET = ("-n", SIDE_BY_SIDE, "--dist", "loadfile", "--no-loadscope-reorder", "-m", "not disruptive")
DISRUPTIVE = ("-m", "disruptive")
LAST = ("-m", "last")


def shown(argv: Sequence[str | Path], *, label: str, name: str) -> int:
    """Runs a command, whose lines begin with the label; its exit status."""
    process = subprocess.Popen(
        argv,
        env={**os.environ, "SLURMLET_LAB": name, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(f"{label}{line}")
        sys.stdout.flush()
    return process.wait()


def on_lab(
    name: str,
    parts: Sequence[Sequence[str]],
    *,
    suite: str,
    given: Sequence[str],
    label: str = "",
) -> list[int]:
    """Runs parts of the tests on the lab of that name; the exit statuses that say something.

    A lab that ran before stays; one that was made here goes when all tests passed.
    """
    stays = alive(Lab(name=name))
    lab = ROOT / "lab"
    pytest = [sys.executable, "-m", "pytest", "-v", str(ROOT / "tests" / "e2e")]
    if status := shown([lab, "up", "--name", name, "--slurm", suite], label=label, name=name):
        return [status]
    done = [shown([*pytest, *part, *given], label=label, name=name) for part in parts]
    if stays or set(done) - {0, NO_TESTS}:
        return done
    status = shown([lab, "down", "--name", name], label=label, name=name)
    return [*done, status] if status else done


def main(given: Sequence[str]) -> int:
    name, suite = wanted()
    if alive(Lab(name=name)) or "--only-claims" in given:
        done = on_lab(name, (QUIET, DISRUPTIVE), suite=suite, given=given)
    else:
        with ThreadPoolExecutor() as pool:
            alone = pool.submit(
                on_lab, f"{name}-alone", [DISRUPTIVE], suite=suite, given=given, label="alone | "
            )
            done = on_lab(name, (QUIET, LAST), suite=suite, given=given) + alone.result()
    failed = [status for status in done if status not in (0, NO_TESTS)]
    if failed or 0 not in done:
        return (failed or done)[0]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
