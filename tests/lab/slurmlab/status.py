"""`status`: what runs."""

from slurmlab import node
from slurmlab.errors import LabError
from slurmlab.lab import alive, read_state
from slurmlab.names import NODES, Lab, Node
from slurmlab.process import run
from slurmlab.site import SERVICES

_ASK_SECONDS = 20.0


def show(lab: Lab) -> None:
    """Print the lab, its nodes and their services; raises LabError when a node is not running."""
    state = read_state(lab)
    if not state:
        raise LabError(f"lab {lab.name} does not exist: ./lab up --name {lab.name}")
    print(f"lab {lab.name}: {state['phase']}, Slurm of {state['suite']}, image {state['image']}")
    for each in NODES:
        pid = node.init_pid(lab, each)
        if pid is None:
            print(f"  {each.name:4} {each.address:11} not running")
            continue
        services = unit_states(lab, each)
        bad = [name for name, word in services.items() if word != "active"]
        words = f"{len(services) - len(bad)} of {len(services)} services active"
        missing = "".join(f", {name} {services[name]}" for name in bad)
        print(f"  {each.name:4} {each.address:11} init {pid}, {words}{missing}")
    if not alive(lab):
        raise LabError(f"lab {lab.name} is not complete: ./lab up --name {lab.name} mends it")


def unit_states(lab: Lab, each: Node) -> dict[str, str]:
    """Return the state of the site's services and of slurmlet's enabled units on a node."""
    names = [f"{service}.service" for service in SERVICES[each.role]]
    names += _slurmlet_units(lab, each)
    asked = _run(lab, each, ["systemctl", "is-active", *names])
    return dict(zip(names, asked.split(), strict=False))


def _slurmlet_units(lab: Lab, each: Node) -> list[str]:
    argv = ["systemctl", "list-unit-files", "--no-legend", "--plain", "--state=enabled"]
    listed = _run(lab, each, [*argv, "slurmlet-*"])
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def _run(lab: Lab, each: Node, argv: list[str]) -> str:
    return run(node.enter_argv(lab, each, argv), timeout=_ASK_SECONDS, check=False).stdout
