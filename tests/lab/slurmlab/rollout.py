"""Rolling slurmlet out onto the booted nodes: only the site's own Ansible command does it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from slurmlab.cache import digest
from slurmlab.errors import LabError
from slurmlab.names import SOURCE_ROOT, Lab
from slurmlab.network import inside
from slurmlab.process import run, run_logged

PLAYBOOK = "slurmlet.hpc.site"
SECONDS = 600.0
"""A roll-out takes about a minute on two cores."""

BUILD_SECONDS = 1800.0
"""A cold build of the control plane takes eleven minutes on two cores."""


def inputs(*, python: str, headers: Path) -> dict[str, object]:
    """Build what nodes are given, or find it in the caches; return it as the playbook's variables.

    `python` is the version of the nodes' interpreter, such as 3.13, `headers` a directory with the
    headers of their Slurm. Equal inputs have equal paths, so a lab that was rolled out from them
    needs nothing new.
    """
    programs = SOURCE_ROOT / ".venv" / "bin"
    tools = SOURCE_ROOT / "ansible" / "tools"
    if not (programs / "ansible-playbook").exists():
        raise LabError("the roll-out needs the project's tools: run `make dev`, or up --no-rollout")
    return {
        "slurmlet_wheelhouse": _printed([tools / "wheelhouse", "--python", python]),
        "slurmlet_controlplane_binaries": _printed([programs / "slurmlet-controlplane", "build"]),
        "slurmlet_spank_plugins": json.loads(_printed([tools / "plugin", "--include", headers])),
        "collection": _collection(),
    }


def _printed(argv: Sequence[str | Path]) -> str:
    return run(argv, timeout=BUILD_SECONDS).stdout.strip().splitlines()[-1]


def _collection() -> str:
    ansible = SOURCE_ROOT / "ansible"
    return digest(ansible / "roles", ansible / "playbooks")


def command(
    lab: Lab, *, given: dict[str, object], playbook: str = PLAYBOOK, extra: Sequence[str] = ()
) -> list[str]:
    """Return the command that runs a playbook of the collection against the lab."""
    tool = SOURCE_ROOT / "ansible" / "tools" / "playbook"
    variables = json.dumps({key: value for key, value in given.items() if key != "collection"})
    return [
        *inside(lab.hub),
        *(str(tool), playbook, "-i", str(lab.inventory), "--extra-vars", variables, *extra),
    ]


def rollout(lab: Lab, given: dict[str, object]) -> None:
    """Run the collection's site playbook; raises LabError with the place of its log."""
    log = lab.run_dir / "rollout.log"
    temporary = lab.run_dir / "tmp"  # so that `down` removes what a killed roll-out left there
    temporary.mkdir(exist_ok=True)
    env = {**os.environ, "ANSIBLE_NOCOLOR": "1", "TMPDIR": str(temporary)}
    status = run_logged(command(lab, given=given), log=log, timeout=SECONDS, env=env)
    if status != 0:
        lines = log.read_text(errors="replace").splitlines()
        said = [line for line in lines if "[ERROR]" in line or "fatal:" in line or "msg:" in line]
        raise LabError(f"the roll-out failed: {' | '.join(said[-2:])[:600]} (log: {log})")
