"""Rolling slurmlet out onto the booted nodes: only the site's own Ansible command does it."""

import os
from collections.abc import Sequence

from slurmlab.errors import LabError
from slurmlab.names import SOURCE_ROOT, Lab
from slurmlab.network import inside
from slurmlab.process import run_logged

PLAYBOOK = "slurmlet.hpc.site"
SECONDS = 600.0
"""A roll-out takes about a minute; a cold wheelhouse and control plane are built before it."""


def command(lab: Lab, *, playbook: str = PLAYBOOK, extra: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a playbook of the collection against the lab."""
    if not (SOURCE_ROOT / ".venv" / "bin" / "ansible-playbook").exists():
        raise LabError("the roll-out needs Ansible: run `make dev`, or `./lab up --no-rollout`")
    ansible = SOURCE_ROOT / "ansible" / "tools" / "playbook"
    return [*inside(lab.hub), str(ansible), playbook, "-i", str(lab.inventory), *extra]


def environment() -> dict[str, str]:
    """Return the environment for `command`."""
    return {**os.environ, "ANSIBLE_NOCOLOR": "1"}


def rollout(lab: Lab) -> None:
    """Run the collection's site playbook; raises LabError with the place of its log."""
    log = lab.run_dir / "rollout.log"
    status = run_logged(command(lab), log=log, timeout=SECONDS, env=environment())
    if status != 0:
        lines = log.read_text(errors="replace").splitlines()
        tail = [line for line in lines if "fatal:" in line or "ERROR" in line]
        raise LabError(f"the roll-out failed: {' | '.join(tail[-2:])[:600]} (log: {log})")
