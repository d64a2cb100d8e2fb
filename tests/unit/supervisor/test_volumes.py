"""Volumes and their mounts."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from slurmlet.contracts.podproto import Volume, VolumeFile
from slurmlet.supervisor.anchor import Anchor
from slurmlet.supervisor.engines.interface import Mount
from slurmlet.supervisor.volumes import (
    Directories,
    VolumeError,
    container_mounts,
    make_volumes,
)

from .plans import make_plan


class PlainAnchor:
    """An anchor without namespaces: mounts are remembered, helpers too."""

    ids = 65536

    def __init__(self) -> None:
        self.mounted: list[tuple[str, str, str]] = []
        self.ran: list[Sequence[str]] = []

    def path(self, inner: str) -> Path:
        return Path(inner)

    async def mount(self, kind: str, target: str, *, options: str) -> None:
        self.mounted.append((kind, target, options))

    async def run(self, argv: Sequence[str]) -> None:
        self.ran.append(argv)


def files(name: str, **content: bytes) -> Volume:
    return Volume(
        name=name,
        kind="files",
        files=tuple(
            VolumeFile(path=path.replace("__", "/"), data=base64.b64encode(data).decode())
            for path, data in content.items()
        ),
    )


async def make(
    tmp_path: Path, *volumes: Volume, anchor: PlainAnchor | None = None, **spec: Any
) -> dict[str, str]:
    plan = make_plan([], contents=volumes, **spec)
    (tmp_path / "memory").mkdir()
    directories = Directories(scratch=str(tmp_path), memory=f"{tmp_path}/memory")
    used = cast(Anchor, anchor or PlainAnchor())
    return await make_volumes(plan, anchor=used, directories=directories)


def mode(*parts: str) -> int:
    return Path(*parts).stat().st_mode & 0o777


def content(*parts: str) -> tuple[bytes, int]:
    return Path(*parts).read_bytes(), mode(*parts)


async def test_content_lies_in_memory_with_its_modes(tmp_path: Path) -> None:
    os.umask(0o077)
    secret = Volume(
        name="s", kind="files", files=(VolumeFile(path="key", data="a2V5", mode=0o440),)
    )
    paths = await make(tmp_path, files("c", a=b"\x00\xff", d__b=b"2"), secret)
    assert paths["c"].startswith(f"{tmp_path}/memory/")
    assert content(paths["c"], "a") == (b"\x00\xff", 0o644)
    assert content(paths["c"], "d/b") == (b"2", 0o644)
    assert mode(paths["c"], "d") == 0o755
    assert content(paths["s"], "key") == (b"key", 0o440)


@pytest.mark.parametrize("path", ["../x", "/x", "", "a/../../x"])
async def test_content_stays_in_its_volume(tmp_path: Path, path: str) -> None:
    volume = Volume(name="c", kind="files", files=(VolumeFile(path=path, data=""),))
    with pytest.raises(VolumeError, match="leads out of the volume"):
        await make(tmp_path, volume)


async def test_content_has_no_name_that_the_kernel_would_cut(tmp_path: Path) -> None:
    volume = Volume(name="c", kind="files", files=(VolumeFile(path="a\0b", data=""),))
    with pytest.raises(VolumeError, match="NUL character"):
        await make(tmp_path, volume)


async def test_empty_directories(tmp_path: Path) -> None:
    os.umask(0o077)
    anchor = PlainAnchor()
    definitions: list[dict[str, Any]] = [
        {"name": "disk", "emptyDir": {}},
        {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    contents = [Volume(name=item["name"], kind="emptyDir") for item in definitions]
    paths = await make(tmp_path, *contents, anchor=anchor, volumes=definitions)
    assert mode(paths["disk"]) == 0o777
    assert anchor.mounted == [("tmpfs", paths["fast"], "mode=0777,nosuid,nodev,size=1048576")]


async def test_the_group_of_the_pod_may_use_its_volumes(tmp_path: Path) -> None:
    anchor = PlainAnchor()
    contents = (files("c", a=b"1"), Volume(name="e", kind="emptyDir"))
    paths = await make(tmp_path, *contents, anchor=anchor, securityContext={"fsGroup": 7})
    assert ["chgrp", "-R", "--", "7", paths["c"]] in anchor.ran
    assert ["chmod", "g+ws", "--", paths["e"]] in anchor.ran


@pytest.mark.parametrize("name", ["..", "a/b", ""])
async def test_names_of_volumes_are_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(VolumeError, match="not a name"):
        await make(tmp_path, Volume(name=name, kind="emptyDir"))


def mounts(
    volumes: dict[str, str], *items: dict[str, Any], **environment: str
) -> tuple[Mount, ...]:
    container = {"name": "main", "volumeMounts": list(items)}
    contents = (files("c"), Volume(name="e", kind="emptyDir"))
    return container_mounts(
        container,
        plan=make_plan([container], contents=contents),
        volumes=volumes,
        anchor=cast(Anchor, PlainAnchor()),
        environment={"POD": "web", **environment},
    )


def test_content_of_the_api_is_read_only_and_outer_mounts_come_first(tmp_path: Path) -> None:
    volumes = {"c": str(tmp_path), "e": str(tmp_path)}
    assert mounts(
        volumes,
        {"name": "c", "mountPath": "/data/inner/"},
        {"name": "e", "mountPath": "/data"},
        {"name": "e", "mountPath": "/also/ro/here", "readOnly": True},
    ) == (
        Mount(source=str(tmp_path), target="/data"),
        Mount(source=str(tmp_path), target="/data/inner", read_only=True),
        Mount(source=str(tmp_path), target="/also/ro/here", read_only=True),
    )


def test_sub_paths(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("/etc")
    volumes = {"e": str(tmp_path)}
    file, made, link = (
        mounts(volumes, {"name": "e", "mountPath": "/m", **item})[0]
        for item in ({"subPath": "file"}, {"subPathExpr": "of/$(POD)"}, {"subPath": "link"})
    )
    assert (file.source, file.directory) == (f"{tmp_path}/file", False)
    assert (made.source, made.directory) == (f"{tmp_path}/of/web", True)
    assert Path(made.source).is_dir()
    assert link.source == f"{tmp_path}/etc"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"name": "none"}, '"none" of a volumeMount does not'),
        ({"name": "e", "subPath": "../x"}, "leads out"),
        ({"name": "e", "subPath": "/x"}, "leads out"),
        ({"name": "e", "subPath": "x\0"}, "NUL character"),
        ({"name": "e", "mountPath": "/x\0"}, "NUL character"),
    ],
)
def test_wrong_mounts(tmp_path: Path, item: dict[str, Any], words: str) -> None:
    with pytest.raises(VolumeError, match=words):
        mounts({"e": str(tmp_path)}, {"mountPath": "/m"} | item)


@pytest.mark.parametrize("value", ["../hunter2", "/hunter2", "hunter2" * 100, "hunter2\0"])
def test_what_an_expression_became_is_not_quoted(tmp_path: Path, value: str) -> None:
    item = {"name": "e", "mountPath": "/m", "subPathExpr": "$(SECRET)"}
    with pytest.raises(VolumeError) as caught:
        mounts({"e": str(tmp_path)}, item, SECRET=value)
    assert "subPath '$(SECRET)' of volume \"e\"" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__
