"""Images: pulled by the user inside the job, unpacked once, cached by digest under a lock.

CACHE/names/SHA256 of a name: the digest that the name had at its last pull.
CACHE/images/DIGEST.VARIANT/{image.json,rootfs}: the unpacked image; VARIANT is the id mapping.
CACHE/{locks,tmp}/: locks, and work in progress.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmlet.supervisor.anchor import Anchor
from slurmlet.supervisor.files import write_whole
from slurmlet.supervisor.imagename import ImageName, ImageNameError, parse_image_name, pull_policy
from slurmlet.supervisor.process import Finished, ProcessError, run

_INSPECT_TIMEOUT = 60.0
"""Seconds for a registry to name a digest: one small request."""
_LOCK_POLL = 0.2
"""Seconds between tries: flock cannot be awaited, and a thread that waits cannot be stopped."""
_TAG = "image"
_MESSAGE = re.compile(r'msg="((?:[^"\\]|\\.)*)"')
"""The sentence in a line of skopeo's log."""
_NO_ROOM = ("no space left on device", "disk quota exceeded")


class ImageError(Exception):
    """An image that cannot be had now; `reason` is kubelet's word for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An unpacked image; `rootfs` is never written to, `image_id` is the name by digest."""

    name: str
    image_id: str
    rootfs: Path
    environment: tuple[str, ...] = field(default=(), repr=False)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    directory: str = ""
    user: str = ""
    stop_signal: str = ""


Tell = Callable[[str, str], None]
"""Reports an event in kubelet's words: reason, message."""


class Images:
    """The image cache of one user, used from one pod."""

    def __init__(
        self,
        *,
        cache: Path,
        anchor: Anchor,
        environment: Mapping[str, str],
        insecure: tuple[str, ...],
        timeout: float,
        auth_file: Path,
    ) -> None:
        self._cache = cache
        self._anchor = anchor
        self._environment = environment
        self._insecure = insecure
        self._timeout = timeout
        self._auth_file = auth_file

    async def ensure(self, text: str, *, policy: str | None, tell: Tell) -> Image:
        """The image of a container, pulled if its policy asks for it.

        Raises:
            ImageError: it cannot be had; trying again later may help unless the name is invalid.
        """
        try:
            name = parse_image_name(text)
        except ImageNameError as error:
            raise ImageError("InvalidImageName", str(error)) from None
        policy = pull_policy(policy, name)
        try:
            for directory in ("names", "images", "locks", "tmp"):
                (self._cache / directory).mkdir(mode=0o700, parents=True, exist_ok=True)
            known = name.digest or self._recorded(name)
            cached = self._load(name, known) if known and policy != "Always" else None
            if cached:
                tell("Pulled", f'Container image "{text}" already present on machine')
                return cached
            if policy == "Never":
                raise ImageError(
                    "ErrImageNeverPull",
                    f'Container image "{text}" is not present with pull policy of Never',
                )
            return await self._pull(name, text=text, tell=tell)
        except ProcessError as error:
            raise ImageError("ErrImagePull", str(error)) from None
        except OSError as error:
            raise ImageError("ErrImagePull", f"image cache {self._cache}: {error}") from None

    async def _pull(self, name: ImageName, *, text: str, tell: Tell) -> Image:
        tell("Pulling", f'Pulling image "{text}"')
        started = time.monotonic()
        digest = name.digest or await self._digest(name)
        async with self._locked(digest):
            image = self._load(name, digest)
            if image is None:
                await self._fetch(name, digest)
                image = self._load(name, digest)
        if image is None:
            raise ImageError("ErrImagePull", f"image cache {self._cache}: the entry vanished")
        if not name.digest:
            record = {"name": name.reference(), "digest": digest}
            write_whole(self._record(name), json.dumps(record).encode())
        took = time.monotonic() - started
        tell("Pulled", f'Successfully pulled image "{text}" in {took:.3f}s')
        return image

    async def _digest(self, name: ImageName) -> str:
        done = await run(
            [
                "skopeo",
                "inspect",
                "--raw",
                *self._tls("--tls-verify", name),
                *self._authentication(),
                _url(name.reference()),
            ],
            environment=self._environment,
            timeout=_INSPECT_TIMEOUT,
        )
        _succeed(done)
        return f"sha256:{hashlib.sha256(done.stdout).hexdigest()}"

    async def _fetch(self, name: ImageName, digest: str) -> None:
        entry = self._entry(digest)
        work = self._cache / "tmp" / entry.name
        # Left over by a job that was killed; the lock is ours.
        await self._remove(work, entry)
        work.mkdir(mode=0o700)
        try:
            layout = f"{work}/layout"
            copied = await run(
                [
                    "skopeo",
                    f"--tmpdir={work}",
                    "copy",
                    "--quiet",
                    *self._tls("--src-tls-verify", name),
                    *self._authentication(),
                    _url(name.pinned(digest)),
                    f"oci:{layout}:{_TAG}",
                ],
                environment=self._environment,
                timeout=self._timeout,
            )
            _succeed(copied)
            made = work / "entry"
            made.mkdir(mode=0o755)
            # With the anchor's ids, so that files belong to whom the image says.
            single = ["--rootless"] if self._anchor.ids == 1 else []
            await self._anchor.run(
                ["umoci", "raw", "unpack", *single, f"--image={layout}:{_TAG}", f"{made}/rootfs"],
                timeout=self._timeout,
            )
            content = {"digest": digest, "config": _read_config(Path(layout))}
            write_whole(made / "image.json", json.dumps(content).encode())
            made.rename(entry)
        finally:
            await self._remove(work)

    async def _remove(self, *paths: Path) -> None:
        # Parts of them belong to subordinate ids.
        existing = [str(path) for path in paths if path.exists()]
        if existing:
            await self._anchor.run(["rm", "-rf", "--", *existing], timeout=self._timeout)

    def _load(self, name: ImageName, digest: str) -> Image | None:
        entry = self._entry(digest)
        try:
            content = json.loads((entry / "image.json").read_bytes())
            config = content["config"].get("config") or {}
        except (OSError, ValueError, LookupError, AttributeError):
            return None
        if not (entry / "rootfs").is_dir():
            return None
        return Image(
            name=name.reference(),
            image_id=name.pinned(digest),
            rootfs=entry / "rootfs",
            environment=tuple(config.get("Env") or ()),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
            directory=config.get("WorkingDir") or "",
            user=config.get("User") or "",
            stop_signal=config.get("StopSignal") or "",
        )

    def _entry(self, digest: str) -> Path:
        hexadecimal = digest.removeprefix("sha256:")
        return self._cache / "images" / f"{hexadecimal}.{self._anchor.variant}"

    def _record(self, name: ImageName) -> Path:
        return self._cache / "names" / hashlib.sha256(name.reference().encode()).hexdigest()

    def _recorded(self, name: ImageName) -> str | None:
        try:
            return str(json.loads(self._record(name).read_bytes())["digest"])
        except (OSError, ValueError, LookupError):
            return None

    def _tls(self, option: str, name: ImageName) -> list[str]:
        return [f"{option}=false"] if name.registry in self._insecure else []

    def _authentication(self) -> list[str]:
        """Without pull secrets a registry sees what its user logged in as on the cluster."""
        return [f"--authfile={self._auth_file}"] if self._auth_file.exists() else []

    @asynccontextmanager
    async def _locked(self, digest: str) -> AsyncIterator[None]:
        path = self._cache / "locks" / digest.removeprefix("sha256:")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + self._timeout
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ProcessError(
                            f"another job holds {path} for {self._timeout:g} s"
                        ) from None
                    await asyncio.sleep(_LOCK_POLL)
            yield
        finally:
            os.close(descriptor)


def _url(reference: str) -> str:
    return f"docker://{reference}"


def _succeed(done: Finished) -> None:
    if done.code != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        words = _MESSAGE.search(lines[-1]) if lines else None
        reason = words[1].replace('\\"', '"') if words else " ".join(lines)
        reason = reason[-400:] or f"skopeo ended with code {done.code}"
        if any(error in reason.lower() for error in _NO_ROOM):
            reason += "; the image cache has no room left: remove files there or ask for more"
        raise ProcessError(reason)


def _read_config(layout: Path) -> Any:
    """The image configuration of an OCI layout that holds one image.

    Raises:
        ProcessError: the layout is not one.
    """

    def blob(digest: str) -> Any:
        algorithm, _, value = digest.partition(":")
        return json.loads((layout / "blobs" / algorithm / value).read_bytes())

    try:
        index = json.loads((layout / "index.json").read_bytes())
        manifest = blob(index["manifests"][0]["digest"])
        return blob(manifest["config"]["digest"])
    except (OSError, ValueError, LookupError, TypeError):
        raise ProcessError("skopeo wrote no image that can be read") from None
