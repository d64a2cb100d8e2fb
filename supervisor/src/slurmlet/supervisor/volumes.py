"""Volumes of a pod: bytes from the API on a tmpfs in memory, emptyDir on the node's scratch."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from slurmlet.contracts.podproto import Plan, Volume
from slurmlet.supervisor.anchor import Anchor
from slurmlet.supervisor.engines.interface import Mount
from slurmlet.supervisor.environment import expand
from slurmlet.supervisor.files import make_open_directory, resolve_inside

MEMORY_SIZE = 64 * 1024 * 1024
"""Bytes of the pod's own tmpfs: a plan of MAX_PLAN decoded, bundles and small files."""


class VolumeError(ValueError):
    """A volume or a mount that cannot be made; the message is for the pod's author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directories:
    """Directories of the pod in the anchor's mount namespace; `memory` is a tmpfs that only the
    anchor has, `scratch` lies on the node's disk."""

    scratch: str
    memory: str

    @property
    def auth_file(self) -> str:
        return f"{self.memory}/auth.json"

    def container(self, name: str, restart: int) -> str:
        return f"{self.scratch}/containers/{name}.{restart}"

    def bundle(self, name: str, restart: int) -> str:
        return f"{self.memory}/bundles/{name}.{restart}"


async def make_volumes(plan: Plan, *, anchor: Anchor, directories: Directories) -> dict[str, str]:
    """Make all volumes; name → path in the anchor's mount namespace.

    Raises:
        VolumeError: a volume's content or size is not valid.
        ProcessError: a mount failed.
    """
    spec = plan.pod["spec"]
    definitions = {item["name"]: item for item in spec.get("volumes") or ()}
    group = (spec.get("securityContext") or {}).get("fsGroup")
    result = {}
    for volume in plan.volumes:
        _component(volume.name)
        if volume.kind == "files":
            path = f"{directories.memory}/volumes/{volume.name}"
            _write_files(volume, root=anchor.path(path))
        elif volume.kind == "emptyDir":
            definition = definitions.get(volume.name, {}).get("emptyDir") or {}
            in_memory = definition.get("medium") == "Memory"
            above = directories.memory if in_memory else directories.scratch
            path = f"{above}/volumes/{volume.name}"
            if in_memory:
                await _mount_empty(definition, path=path, anchor=anchor)
            else:
                # kubelet makes them so: containers of a pod run as any user.
                make_open_directory(anchor.path(path))
                anchor.path(path).chmod(0o777)
        else:
            raise VolumeError(f'volume "{volume.name}": kind {volume.kind!r} is not supported')
        if group is not None and int(group) < anchor.ids:
            await anchor.run(["chgrp", "-R", "--", str(int(group)), path])
            await anchor.run(["chmod", "-R", "g+rX", "--", path])
            if volume.kind == "emptyDir":
                await anchor.run(["chmod", "g+ws", "--", path])
        result[volume.name] = path
    return result


def container_mounts(
    container: Mapping[str, Any],
    *,
    plan: Plan,
    volumes: Mapping[str, str],
    anchor: Anchor,
    environment: Mapping[str, str],
) -> tuple[Mount, ...]:
    """The volume mounts of a container, shorter targets first so that none hides another.

    Raises:
        VolumeError: a mount refers to what does not exist or leads out of its volume.
    """
    kinds = {volume.name: volume.kind for volume in plan.volumes}
    result = []
    for item in container.get("volumeMounts") or ():
        name = item["name"]
        if name not in volumes:
            raise VolumeError(
                f'volume "{name}" of a volumeMount does not exist or is not supported'
            )
        asked = item.get("subPathExpr") or item.get("subPath") or ""
        below = expand(asked, environment) if item.get("subPathExpr") else asked
        if "\0" in item["mountPath"] + asked:
            raise VolumeError(f'volumeMount of volume "{name}": a path has a NUL character')
        source, directory = volumes[name], True
        if below:
            # What an expression became may be a Secret's value; only the expression is quoted.
            problem = f'subPath {asked!r} of volume "{name}"'
            try:
                source, directory = _sub_path(below, volume=volumes[name], anchor=anchor)
            except OSError as error:
                raise VolumeError(f"{problem}: {error.strerror}") from None
            except ValueError as error:
                known = isinstance(error, VolumeError)
                raise VolumeError(f"{problem} {error if known else 'is no path'}") from None
        result.append(
            Mount(
                source=source,
                target=str(PurePosixPath("/", item["mountPath"])),
                read_only=bool(item.get("readOnly")) or kinds[name] == "files",
                directory=directory,
            )
        )
    return tuple(sorted(result, key=lambda mount: len(mount.target)))


async def _mount_empty(definition: Mapping[str, Any], *, path: str, anchor: Anchor) -> None:
    anchor.path(path).mkdir(mode=0o700, parents=True)
    options = "mode=0777,nosuid,nodev"
    if definition.get("sizeLimit"):
        # Fractions and decimals: 0.2 MiB that most pods need not have.
        from slurmlet.contracts.quantity import QuantityError, parse  # noqa: PLC0415

        try:
            options += f",size={int(parse(definition['sizeLimit']))}"
        except QuantityError as error:
            raise VolumeError(f"emptyDir.sizeLimit: {error}") from None
    await anchor.mount("tmpfs", path, options=options)


def _write_files(volume: Volume, *, root: Path) -> None:
    make_open_directory(root)
    for file in volume.files:
        parts = PurePosixPath(file.path).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise VolumeError(f'volume "{volume.name}": {file.path!r} leads out of the volume')
        if "\0" in file.path:
            raise VolumeError(f'volume "{volume.name}": {file.path!r} has a NUL character')
        path = root.joinpath(*parts)
        make_open_directory(path.parent)
        try:
            path.write_bytes(base64.b64decode(file.data, validate=True))
        except binascii.Error:
            raise VolumeError(f'volume "{volume.name}": {file.path!r} is not base64') from None
        path.chmod(file.mode & 0o777)


def _sub_path(below: str, *, volume: str, anchor: Anchor) -> tuple[str, bool]:
    """The path of a sub-path, made as a directory if it does not exist; whether it is one."""
    if below.startswith("/") or ".." in PurePosixPath(below).parts:
        raise VolumeError("leads out of its volume")
    root = anchor.path(volume)
    path = resolve_inside(root, below)
    make_open_directory(path)
    return f"{volume}/{path.relative_to(root)}", path.is_dir()


def _component(name: str) -> None:
    if "/" in name or name in ("", ".", ".."):
        raise VolumeError(f"volume {name!r}: not a name")
