"""`up` and `down`."""

import json
import time
from pathlib import Path

from slurmlab import cgroups, clean, host, network, node, registry, site
from slurmlab.errors import LabError
from slurmlab.image import Image, headers, node_image
from slurmlab.names import NODES, Lab, node_named
from slurmlab.process import Progress, run
from slurmlab.rollout import inputs, rollout

SLURM_SECONDS = 60.0
"""slurmdbd makes its tables at the first start; then both compute nodes register."""


def read_state(lab: Lab) -> dict[str, str]:
    """Return what `up` recorded; empty for a lab that is not there."""
    try:
        loaded: dict[str, str] = json.loads(lab.state_file.read_text())
    except (OSError, ValueError):
        return {}
    return loaded


def record(lab: Lab, **facts: str) -> None:
    """Add facts to what `read_state` returns."""
    aside = lab.state_file.with_suffix(".new")
    aside.write_text(json.dumps({**read_state(lab), **facts}, indent=1) + "\n")
    aside.rename(lab.state_file)


def alive(lab: Lab) -> bool:
    """Tell whether the lab finished booting and all its nodes still run."""
    if read_state(lab).get("phase") not in ("booted", "rolled-out"):
        return False
    return all(node.init_pid(lab, each) is not None for each in NODES)


def up(lab: Lab, *, suite: str | None, roll_out: bool) -> None:
    """Bring the lab up; what is up already stays as it is.

    `suite` chooses the Slurm release (None: trixie, or what the running lab has). Raises LabError.
    """
    progress = Progress()
    host.check()
    with host.locked(lab):
        if not alive(lab):
            _boot(lab, suite=suite or "trixie", progress=progress)
        elif suite not in (None, read_state(lab)["suite"]):
            raise LabError(f"lab {lab.name} runs {read_state(lab)['suite']}: ./lab down first")
        if roll_out:
            _roll_out(lab, progress=progress)
        progress.say(f"lab {lab.name} is up ({read_state(lab)['phase']})")


def _roll_out(lab: Lab, *, progress: Progress) -> None:
    cgroups.enter(lab, "host")
    state = read_state(lab)
    progress.say("wheels, plugin and control plane: building, or finding them in the cache")
    given = inputs(python=state["python"], headers=headers(state["image"]))
    if state["phase"] == "rolled-out" and state.get("inputs") == json.dumps(given):
        return
    progress.say("rolling slurmlet out")
    site.write_inventory(lab)  # the lab may be older than what the site now says
    started = progress.seconds
    rollout(lab, given)
    record(lab, phase="rolled-out", inputs=json.dumps(given))
    progress.say(f"rolled out in {progress.seconds - started:.1f} s")


def build(*, suite: str | None, roll_out: bool) -> None:
    """Build what `up` needs, or find it in the cache: images, and what is rolled out."""
    progress = Progress()
    host.check()
    image = node_image(suite or "trixie", say=progress.say)
    registry.storage(image, say=progress.say)
    if roll_out:
        progress.say("wheels, plugin and control plane: building, or finding them in the cache")
        inputs(python=image.python, headers=headers(image.key))
    _show(image, progress)


def _show(image: Image, progress: Progress) -> None:
    progress.say(f"versions: {', '.join(image.versions.splitlines())}")


def _boot(lab: Lab, *, suite: str, progress: Progress) -> None:
    if lab.run_dir.exists():
        progress.say(f"removing what an earlier lab {lab.name} left")
    clean.remove(lab)
    host.check_room()
    cgroups.create(lab)
    cgroups.enter(lab, "host")
    image = node_image(suite, say=progress.say)
    images = registry.storage(image, say=progress.say)
    _show(image, progress)
    started = progress.seconds
    lab.run_dir.mkdir(parents=True)
    record(lab, suite=suite, image=image.key, python=image.python, phase="started")
    network.create(lab)
    site.prepare(lab)
    site.write_inventory(lab)
    for each in NODES:
        extra = images if each.role == "control" else ()
        node.assemble(lab, each, layers=(*extra, *image.layers))
        site.configure(lab, each)
        node.boot(lab, each)
    for each in NODES:
        node.wait_booted(lab, each)
    progress.say(f"three nodes booted after {progress.seconds - started:.1f} s")
    wait_slurm(lab)
    record(lab, phase="booted")
    progress.say(f"boot: {progress.seconds - started:.1f} s, Slurm has both compute nodes")


def wait_slurm(lab: Lab) -> None:
    """Wait until slurmctld shows every compute node idle or in use; raises LabError if not."""
    deadline = time.monotonic() + SLURM_SECONDS
    wanted = {each.name for each in NODES if each.role == "compute"}
    argv = node.enter_argv(lab, node_named("ctl"), ["sinfo", "-h", "-N", "-o", "%N %t"])
    said = ""
    while time.monotonic() < deadline:
        asked = run(argv, timeout=30, check=False)
        said = asked.stdout or asked.stderr
        states = dict(line.split() for line in asked.stdout.splitlines() if len(line.split()) == 2)
        if {name for name, state in states.items() if state in ("idle", "mix", "alloc")} >= wanted:
            return
        time.sleep(0.2)
    raise LabError(f"Slurm is not ready after {SLURM_SECONDS:.0f} s: {said.strip()[-300:]}")


def down(lab: Lab) -> None:
    """Remove the lab; does nothing when it is not there."""
    progress = Progress()
    host.check()
    with host.locked(lab):
        clean.remove(lab)
    Path(f"/run/lock/slurmlet-lab-{lab.name}").unlink(missing_ok=True)
    progress.say(f"lab {lab.name} is down")
