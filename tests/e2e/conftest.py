"""The lab that the e2e tests run in: real Slurm on booted nodes, slurmlet rolled out by Ansible."""

import os
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurmlab.lab import read_state
from slurmlab.names import Lab as Place

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
        done = subprocess.run(
            [ROOT / "lab", "exec", node, "--name", self.name, "--user", user, "--", *argv],
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

    The name is $SLURMLET_LAB (default: e2e), or with the suite at its end, if that lab runs another
    suite than $SLURMLET_LAB_SLURM.
    """
    name = os.environ.get("SLURMLET_LAB") or "e2e"
    running = read_state(Place(name=name)).get("suite")
    suite = os.environ.get("SLURMLET_LAB_SLURM") or running or "trixie"
    return (name if running in (suite, None) else f"{name}-{suite}"), suite


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab, brought up to date with the checkout.

    A lab that ran before stays; one that was made here goes when all tests passed.
    """
    name, suite = wanted()
    found = lab_command("status", "--name", name, timeout=60).returncode == 0
    came_up = lab_command("up", "--name", name, "--slurm", suite, timeout=UP_SECONDS)
    assert came_up.returncode == 0, came_up.stdout[-4000:]
    yield Lab(name=name)
    if not found and not request.session.testsfailed:
        lab_command("down", "--name", name, timeout=120)


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
    if config.getoption("only_claims"):
        left = [item for item in found if not _proves(item, _letters(suite))]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def _letters(suite: str) -> str:
    table = tomllib.loads((ROOT / "tests" / "claims.toml").read_text())["releases"]
    return str(table[suite]["claims"])


def _proves(item: pytest.Item, letters: str) -> bool:
    marks = item.iter_markers("claim")
    return any(str(number)[0] in letters for mark in marks for number in mark.args)
