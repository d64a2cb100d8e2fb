"""`sync`: changed Python files go to where the roll-out put them, and their services start anew.

The inner loop of development only: it writes into the installed release, from the host, through
the nodes' mounted root file systems. Everything that is not Python under */src is for a roll-out.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from slurmlab import node, status
from slurmlab.errors import LabError
from slurmlab.lab import record
from slurmlab.names import NODES, SOURCE_ROOT, Lab, Node
from slurmlab.process import run

_EVERY = ("slurmlet-broker", "slurmlet-kubelet", "slurmlet-scheduler", "slurmlet-webhook")
UNITS: Mapping[str, tuple[str, ...]] = {
    "contracts": _EVERY,
    "common": ("slurmlet-kubelet", "slurmlet-scheduler", "slurmlet-webhook"),
    "broker": ("slurmlet-broker",),
    "kubelet": ("slurmlet-kubelet", "slurmlet-lease"),
    "scheduler": ("slurmlet-scheduler",),
    "webhook": ("slurmlet-webhook",),
    "supervisor": (),  # each pod starts its own
    "spank": (),  # each prolog starts its own; what is made of C is for a roll-out
    "cli": (),
    "controlplane": (),  # its programs are not Python; units and certificates are a roll-out's
}
"""Component → services that have its code loaded."""

_RESTART_SECONDS = 60.0


def units_of(components: Iterable[str]) -> list[str]:
    """Return the services to restart for changed components, each once."""
    found: dict[str, None] = {}
    for component in components:
        for unit in UNITS.get(component, _EVERY):
            found[unit] = None
    return list(found)


def differences(
    source: Mapping[str, bytes], installed: Mapping[str, bytes]
) -> tuple[set[str], set[str]]:
    """Return the names to write and the names to remove, so that `installed` becomes `source`."""
    changed = {name for name, data in source.items() if installed.get(name) != data}
    return changed, set(installed) - set(source)


def sync(lab: Lab) -> None:
    """Bring the installed release of every node to the checkout's Python; raises LabError."""
    source: dict[str, bytes] = {}
    for room in sorted(SOURCE_ROOT.glob("*/src/slurmlet")):
        source |= _python_files(room)
    for each in NODES:
        target = _installed(lab, each)
        changed, gone = differences(source, _python_files(target))
        for name in changed:
            _replace(target / name, source[name])
        for name in gone:
            (target / name).unlink()
        components = sorted({name.split("/")[0] for name in changed | gone})
        print(f"{each.name}: {len(changed)} files written, {len(gone)} removed", flush=True)
        if changed or gone:
            # The release is no longer what its name says: the next roll-out installs it anew.
            record(lab, inputs="")
            (target.parents[3] / ".complete").unlink(missing_ok=True)
            _compile(lab, each, target)
            _restart(lab, each, units_of(components))


def _python_files(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*.py"))}


def _installed(lab: Lab, each: Node) -> Path:
    """Return the host's path of the installed package. The link is absolute, so not followed."""
    root = lab.root(each)
    current = root / "opt/slurmlet/current"
    if node.init_pid(lab, each) is None or not current.is_symlink():
        raise LabError(f"nothing is rolled out on {each.name} of lab {lab.name}: ./lab up")
    release = root / str(current.readlink()).lstrip("/")
    found = sorted(release.glob("lib/python3*/site-packages/slurmlet"))
    if not found:
        raise LabError(f"{release} has no package slurmlet: ./lab down, then ./lab up")
    return found[-1]


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(content)
    aside.chmod(0o644)
    aside.replace(path)


def _compile(lab: Lab, each: Node, target: Path) -> None:
    """Users cannot write bytecode into the release: without this each pod would compile anew."""
    inside = "/" + str(target.relative_to(lab.root(each)))
    argv = ["/opt/slurmlet/current/bin/python", "-m", "compileall", "-q", inside]
    run(node.enter_argv(lab, each, argv), timeout=_RESTART_SECONDS)


def _restart(lab: Lab, each: Node, units: list[str]) -> None:
    if each.role != "control" or not units:
        return
    active = status.unit_states(lab, each)
    services = [f"{unit}.service" for unit in units if f"{unit}.service" in active]
    argv = ["systemctl", "restart", *services]
    run(node.enter_argv(lab, each, argv), timeout=_RESTART_SECONDS)
    print(f"{each.name}: restarted {' '.join(services)}")
