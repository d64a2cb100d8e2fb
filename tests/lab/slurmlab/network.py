"""The lab's network: a hub namespace with a bridge, and one namespace per node on it.

Namespaces are pinned by files in the lab's directory, not by `ip netns`, so that nothing of the lab
shows in the host's namespace and nothing outside the lab's directory needs to be removed.
"""

from pathlib import Path

from slurmlab.names import HUB_ADDRESS, NODES, PREFIX_LENGTH, Lab
from slurmlab.process import run


def create(lab: Lab) -> None:
    """Make the namespaces, the bridge and the links."""
    lab.hub.parent.mkdir(parents=True, exist_ok=True)
    for path in (lab.hub, *(lab.netns(node) for node in NODES)):
        path.touch()
        run(["unshare", f"--net={path}", "true"])
    hub = [
        "link set lo up",
        "link add br0 type bridge",
        f"address add {HUB_ADDRESS}/{PREFIX_LENGTH} dev br0",
        "link set br0 up",
    ]
    for node in NODES:
        hub += [
            f"link add {node.name} type veth peer name eth0 netns {lab.netns(node)}",
            f"link set {node.name} master br0 up",
        ]
    _ip(lab.hub, hub)
    for node in NODES:
        _ip(
            lab.netns(node),
            [
                "link set lo up",
                f"address add {node.address}/{PREFIX_LENGTH} dev eth0",
                "link set eth0 up",
            ],
        )


def _ip(namespace: Path, commands: list[str]) -> None:
    run([*inside(namespace), "ip", "-batch", "-"], stdin="\n".join(commands) + "\n")


def inside(namespace: Path) -> list[str]:
    """Return the words to put before a command that shall run in a network namespace."""
    return ["nsenter", f"--net={namespace}", "--"]
