"""A /dev of the pod's own, for engines in whose own no file can be mounted."""

from slurmlet.supervisor.anchor import Anchor

_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_DIRECTORIES = ("pts", "shm", "mqueue")


async def make_devices(anchor: Anchor, directory: str) -> None:
    """Make a directory of the anchor's mount namespace what a container expects of /dev.

    Raises:
        ProcessError: a mount failed.
        OSError: a file cannot be made.
    """
    root = anchor.path(directory)
    for made in (root, *(root / name for name in _DIRECTORIES)):
        made.mkdir()
        made.chmod(0o755)
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)
    for name in _NODES:
        # No device can be made in a user namespace, but the node's can be mounted.
        (root / name).touch()
        await anchor.run(["mount", "--bind", "--", f"/dev/{name}", f"{directory}/{name}"])
    await anchor.mount(
        "devpts", f"{directory}/pts", options="newinstance,ptmxmode=0666,mode=0620,nosuid,noexec"
    )
    await anchor.run(["mount", "--bind", "--", "/dev/mqueue", f"{directory}/mqueue"])
