"""The lab that the e2e tests run in: real Slurm on booted nodes, slurmlet rolled out by Ansible."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurmlab.errors import LabError
from slurmlab.image import SUITES
from slurmlab.lab import alive, read_state
from slurmlab.names import Lab as Place
from slurmlab.names import node_named
from slurmlab.node import enter_argv

ROOT = Path(__file__).parents[2]
UP_SECONDS = 3600
"""A cold machine builds images and control plane first; a warm one needs two minutes."""

ADMIN = "/etc/slurmlet/pki/admin.conf"


@dataclass(frozen=True, slots=True)
class Lab:
    """A running lab."""

    name: str

    def run(
        self,
        node: str,
        argv: Sequence[str],
        *,
        user: str = "root",
        input: str | None = None,  # noqa: A002  # as subprocess.run calls it
        timeout: float = 60,
        check: bool = True,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on a node as a user, in that user's home, for at most `timeout` seconds.

        With `check`, a failure is an AssertionError that shows what the command printed.
        """
        # What `./lab exec` would start, without its 0.1 s: tests ask a thousand times.
        try:
            words = enter_argv(Place(name=self.name), node_named(node), argv, user=user)
        except LabError as error:
            words = ["sh", "-c", 'echo "$1" >&2; exit 1', "sh", f"lab: {error}"]
        done = subprocess.run(
            words,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{user}@{node}$ {' '.join(argv)}: exit {done.returncode}\n"
                f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
            )
        return done

    def kubectl(
        self,
        user: str,
        *args: str,
        input: str | None = None,  # noqa: A002  # as subprocess.run calls it
        timeout: float = 130,
        check: bool = True,
    ) -> "subprocess.CompletedProcess[str]":
        """Run kubectl on ctl as a user; root is the cluster's admin."""
        prefix = ["env", f"KUBECONFIG={ADMIN}"] if user == "root" else []
        argv = [*prefix, "kubectl", *args]
        return self.run("ctl", argv, user=user, input=input, timeout=timeout, check=check)


def lab_command(*args: str, timeout: float) -> "subprocess.CompletedProcess[str]":
    """Run `./lab` with these arguments; its output is kept for the assertion that reads it."""
    return subprocess.run(
        [ROOT / "lab", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def wanted() -> tuple[str, str]:
    """The lab's name and the suite whose Slurm it runs.

    The name is $SLURMLET_LAB (default: e2e), or with the suite at its end, if the lab of that name
    runs another suite than $SLURMLET_LAB_SLURM, or would.
    """
    name = os.environ.get("SLURMLET_LAB") or "e2e"
    running = read_state(Place(name=name)).get("suite") or SUITES[0]
    suite = os.environ.get("SLURMLET_LAB_SLURM") or running
    return (name if suite == running else f"{name}-{suite}"), suite


SHARED = "SLURMLET_E2E_SHARED"
"""Variable with a directory that all processes of one run share (pytest -n starts several)."""


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if not _is_worker(config):
        os.environ[SHARED] = tempfile.mkdtemp(prefix="slurmlet-e2e-")


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab, brought up to date with the checkout by the first process that needs it."""
    name, suite = wanted()
    with Path(os.environ[SHARED], name).open("a+") as record:
        fcntl.flock(record, fcntl.LOCK_EX)
        record.seek(0)
        if not record.read():
            found = alive(Place(name=name))
            came_up = lab_command("up", "--name", name, "--slurm", suite, timeout=UP_SECONDS)
            assert came_up.returncode == 0, came_up.stdout[-4000:]
            record.write("found" if found else "made")
    return Lab(name=name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A lab that ran before stays; one that was made here goes when all tests passed."""
    if _is_worker(session.config):
        return
    shared = Path(os.environ[SHARED])
    for record in shared.iterdir():
        if record.read_text() == "made" and not session.testsfailed:
            lab_command("down", "--name", record.name, timeout=120)
    shutil.rmtree(shared)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    found = [item for item in items if here in item.path.parents]
    suite = wanted()[1]
    for item in found:
        item.user_properties.append(("release", suite))
        # A test's time limit starts when the lab is up.
        given = item.get_closest_marker("timeout")
        seconds = given.args[0] if given is not None and given.args else 120
        seconds = config.getoption("timeout") or seconds
        item.add_marker(pytest.mark.timeout(seconds, func_only=True), append=False)
    # Those that boot labs of their own take longest: they begin, and the others run beside them.
    items.sort(key=lambda item: "lab" in getattr(item, "fixturenames", ()))
    if config.getoption("only_claims"):
        left = [item for item in found if not _is_last(item) and not _proves(item, _letters(suite))]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    items.sort(key=_is_last)


def _is_last(item: pytest.Item) -> bool:
    return item.get_closest_marker("last") is not None


def _letters(suite: str) -> str:
    table = tomllib.loads((ROOT / "tests" / "claims.toml").read_text())["releases"]
    return str(table[suite]["claims"])


def _proves(item: pytest.Item, letters: str) -> bool:
    marks = item.iter_markers("claim")
    return any(str(number)[0] in letters for mark in marks for number in mark.args)
