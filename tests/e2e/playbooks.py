"""Playbooks of the collection, run against a lab."""

import subprocess
from functools import cache

from slurmlab import rollout
from slurmlab.image import headers
from slurmlab.lab import read_state
from slurmlab.names import Lab as Place

SECONDS = 600
"""Bound of a playbook: a roll-out takes half a minute, on a busy machine some."""


@cache
def _given(python: str, image: str) -> dict[str, object]:
    """What is rolled out: once for all tests, because the checkout may change under them."""
    return rollout.inputs(python=python, headers=headers(image))


def play(name: str, playbook: str, *options: str) -> str:
    """Run a playbook against the lab of that name; its output.

    Raises AssertionError if it fails on a host.
    """
    place = Place(name=name)
    state = read_state(place)
    inputs = _given(state["python"], state["image"])
    argv = rollout.command(place, given=inputs, playbook=f"slurmlet.hpc.{playbook}", extra=options)
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout
