"""Pulling and caching, with skopeo, umoci and the anchor faked."""

import asyncio
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from slurmlet.supervisor.anchor import Anchor
from slurmlet.supervisor.images import ImageError, Images
from slurmlet.supervisor.process import Finished, ProcessError, run

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
NAME = "registry.lab:5000/busybox:1"

SKOPEO = """#!/bin/sh
echo "$*" >> "$DIR/calls"
case "$*" in
*missing*) echo 'time="now" level=fatal msg="manifest \\\\"1\\\\" unknown"' >&2; exit 1;;
inspect*) printf '%s' "$MANIFEST";;
*copy*)
    for word; do last=$word; done
    layout=${last#oci:}; layout=${layout%:*}
    mkdir -p "$layout/blobs/sha256"
    echo '{"manifests": [{"digest": "sha256:m"}]}' > "$layout/index.json"
    echo '{"config": {"digest": "sha256:c"}}' > "$layout/blobs/sha256/m"
    echo "$CONFIG" > "$layout/blobs/sha256/c";;
esac
"""
UMOCI = """#!/bin/sh
echo "umoci $*" >> "$DIR/calls"
for word; do last=$word; done
mkdir "$last"; echo content > "$last/file"
"""


class HereAnchor:
    """Runs helpers where the test runs."""

    ids = 65536
    variant = "0_1"

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    async def run(self, argv: Sequence[str], *, timeout: float = 10) -> Finished:
        done = await run(argv, environment=self.environment, timeout=timeout)
        if done.code:
            raise ProcessError(f"{argv[0]}: {done.stderr.decode()}")
        return done


class World:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name, script in (("skopeo", SKOPEO), ("umoci", UMOCI)):
            (directory / name).write_text(script)
            (directory / name).chmod(0o755)
        config = {
            "config": {"Env": ["A=1"], "Cmd": ["sh"], "WorkingDir": "/w", "StopSignal": "SIGQUIT"}
        }
        self.environment = {
            "PATH": f"{directory}:/usr/bin:/bin",
            "DIR": str(directory),
            "MANIFEST": MANIFEST.decode(),
            "CONFIG": json.dumps(config),
        }
        self.events: list[str] = []
        self.images = self.another()

    def another(self) -> Images:
        """The cache as another pod of the same user has it."""
        return Images(
            cache=self.directory / "cache",
            anchor=cast(Anchor, HereAnchor(self.environment)),
            environment=self.environment,
            insecure=("registry.lab:5000",),
            timeout=20,
            auth_file=self.directory / "auth.json",
        )

    def tell(self, reason: str, message: str) -> None:
        self.events.append(reason)

    def calls(self) -> list[str]:
        path = self.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return World(tmp_path)


async def test_credentials_are_in_a_file_and_not_in_arguments(world: World) -> None:
    (world.directory / "auth.json").write_text('{"auths": {"registry.lab:5000": {"auth": "x"}}}')
    await world.images.ensure(NAME, policy="IfNotPresent", tell=world.tell)
    inspect, copy, _ = world.calls()
    for call in (inspect, copy):
        assert f"--authfile={world.directory}/auth.json docker://" in call


async def test_a_pull_resolves_unpacks_and_is_remembered(world: World) -> None:
    image = await world.images.ensure(NAME, policy="IfNotPresent", tell=world.tell)
    assert image.image_id == f"registry.lab:5000/busybox@{DIGEST}"
    assert (image.rootfs / "file").read_text() == "content\n"
    assert (image.environment, image.command, image.directory) == (("A=1",), ("sh",), "/w")
    assert image.stop_signal == "SIGQUIT"
    assert world.events == ["Pulling", "Pulled"]
    inspect, copy, _ = world.calls()
    assert inspect == f"inspect --raw --tls-verify=false docker://{NAME}"
    assert f"--src-tls-verify=false docker://registry.lab:5000/busybox@{DIGEST} oci:" in copy
    assert not list((world.directory / "cache/tmp").iterdir())

    again = await world.images.ensure(NAME, policy="IfNotPresent", tell=world.tell)
    assert again == image
    assert len(world.calls()) == 3
    assert world.events == ["Pulling", "Pulled", "Pulled"]


async def test_always_asks_for_the_digest_but_not_for_what_is_there(world: World) -> None:
    for _ in range(2):
        await world.images.ensure(NAME, policy="Always", tell=world.tell)
    assert [call.split()[0] for call in world.calls()] == [
        "inspect",
        f"--tmpdir={world.directory}/cache/tmp/{DIGEST.removeprefix('sha256:')}.0_1",
        "umoci",
        "inspect",
    ]


async def test_a_digest_needs_no_look_up(world: World) -> None:
    await world.images.ensure(f"quay.io/a@{DIGEST}", policy=None, tell=world.tell)
    assert not any(call.startswith("inspect") for call in world.calls())
    assert not any("tls-verify" in call for call in world.calls())


async def test_two_pods_pull_once(world: World) -> None:
    both = [
        images.ensure(NAME, policy="Always", tell=world.tell)
        for images in (world.images, world.another())
    ]
    first, second = await asyncio.gather(*both)
    assert first == second
    assert sum(call.startswith("umoci") for call in world.calls()) == 1


async def test_a_failed_pull_leaves_nothing_and_says_why(world: World) -> None:
    with pytest.raises(ImageError, match='manifest "1" unknown') as error:
        await world.images.ensure("registry.lab:5000/missing:1", policy=None, tell=world.tell)
    assert error.value.reason == "ErrImagePull"
    world.environment["CONFIG"] = "no json"
    with pytest.raises(ImageError, match="no image that can be read"):
        await world.another().ensure(NAME, policy=None, tell=world.tell)
    assert not list((world.directory / "cache/tmp").iterdir())
    assert not list((world.directory / "cache/images").iterdir())


async def test_a_full_cache_says_what_to_do(world: World) -> None:
    (world.directory / "skopeo").write_text(
        "#!/bin/sh\necho 'level=fatal msg=\"writing blob: no space left on device\"' >&2; exit 1\n"
    )
    with pytest.raises(ImageError, match="no room left: remove files there or ask for more"):
        await world.images.ensure(NAME, policy=None, tell=world.tell)


async def test_a_broken_entry_is_pulled_again(world: World) -> None:
    image = await world.images.ensure(NAME, policy=None, tell=world.tell)
    (image.rootfs.parent / "image.json").write_text("{")
    again = await world.images.ensure(NAME, policy=None, tell=world.tell)
    assert again == image


async def test_what_a_killed_pull_left_is_removed(world: World) -> None:
    left = world.directory / "cache/tmp" / f"{DIGEST.removeprefix('sha256:')}.0_1"
    (left / "entry/rootfs").mkdir(parents=True)
    image = await world.images.ensure(NAME, policy=None, tell=world.tell)
    assert (image.rootfs / "file").exists()


async def test_never_means_never(world: World) -> None:
    with pytest.raises(ImageError) as error:
        await world.images.ensure(NAME, policy="Never", tell=world.tell)
    assert error.value.reason == "ErrImageNeverPull"
    assert world.calls() == []


async def test_names_that_are_none_reach_no_program(world: World) -> None:
    with pytest.raises(ImageError) as error:
        await world.images.ensure("--help", policy=None, tell=world.tell)
    assert error.value.reason == "InvalidImageName"
    assert world.calls() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_cache_that_cannot_be_written_is_named(world: World) -> None:
    world.directory.chmod(0o500)
    with pytest.raises(ImageError, match="image cache"):
        await world.images.ensure(NAME, policy=None, tell=world.tell)
    world.directory.chmod(0o700)
