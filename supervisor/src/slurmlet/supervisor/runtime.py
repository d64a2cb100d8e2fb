"""One start of one container for real: image, writable layer, mounts, engine, log."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slurmlet.contracts.podproto import Event, Plan
from slurmlet.supervisor import limits
from slurmlet.supervisor.anchor import Anchor, children, container_init, runs
from slurmlet.supervisor.devices import make_devices
from slurmlet.supervisor.engines.interface import ContainerSpec, Engine, Mount, Place
from slurmlet.supervisor.environment import ResolveError, refreshed, resolve_environment
from slurmlet.supervisor.files import make_mount_point, read_text, resolve_inside
from slurmlet.supervisor.hints import Announcement, Hints
from slurmlet.supervisor.images import Image, ImageError, Images, Tell
from slurmlet.supervisor.init import PATH, with_init
from slurmlet.supervisor.launching import spawn_logged
from slurmlet.supervisor.logs import LogFile
from slurmlet.supervisor.network import Network
from slurmlet.supervisor.oom import OomCounter
from slurmlet.supervisor.process import Process, ProcessError
from slurmlet.supervisor.pullsecrets import give_credentials
from slurmlet.supervisor.spec import SpecError, container_spec
from slurmlet.supervisor.status import KILLED
from slurmlet.supervisor.termination import (
    log_end,
    make_message_file,
    message_path,
    read_message,
)
from slurmlet.supervisor.volumes import Directories, VolumeError, container_mounts

_DRAIN_TIMEOUT = 5.0
"""Seconds for the last output: its writers died with the container's PID namespace."""
_MAX_ACCOUNTS = 4 * 1024 * 1024
"""Bytes read of an image's /etc/passwd or /etc/group."""
START_FAILED = 128
"""Exit code that Kubernetes' runtimes give a container whose process could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a container ended; `error` says why it never began, `message` is what it left,
    `out_of_memory` says that the kernel killed it."""

    code: int
    error: str = ""
    message: str = ""
    out_of_memory: bool = False


class Started(Protocol):
    """A running container."""

    id: str

    async def wait(self) -> Exit:
        """Its end, with its last output in the log."""
        ...

    def signal(self, number: int) -> bool:
        """Signal its first process; False while there is none that would hear it."""
        ...

    async def clean(self) -> None:
        """Remove its writable layer."""
        ...


class Runtime(Protocol):
    """What the life of a pod needs done; replaced in unit tests."""

    async def pull(self, container: Mapping[str, Any], *, tell: Tell) -> Image:
        """Raises ImageError."""
        ...

    async def start(
        self, container: Mapping[str, Any], *, image: Image, restart: int, log: LogFile
    ) -> Started:
        """Raises SpecError (asked for what is not there) or ProcessError (could not)."""
        ...

    async def refresh(self) -> None:
        """Learn what the environment refers to is by now, if that is told."""
        ...


class EngineRuntime:
    """Containers below an anchor, made by an engine."""

    def __init__(
        self,
        *,
        plan: Plan,
        anchor: Anchor,
        engine: Engine,
        images: Images,
        volumes: Mapping[str, str],
        directories: Directories,
        network: Network,
        replan: Callable[[], Awaitable[Plan | None]],
        tell: Callable[[Event], None],
        hints: Hints | None = None,
    ) -> None:
        self._plan = plan
        self._replan = replan
        self._tell = tell
        self._network = network
        self._hints = hints
        self._anchor = anchor
        self._engine = engine
        self._images = images
        self._volumes = volumes
        self._directories = directories
        self._oom = OomCounter()
        self._refused = False
        self._sysfs = f"{directories.memory}/sys" if network.own else "/sys"
        self._devices = f"{directories.memory}/dev" if engine.wants_devices else ""

    async def prepare(self) -> None:
        """Make what all containers of the pod share.

        Raises:
            ProcessError: a mount failed.
            OSError: a file cannot be written.
        """
        shared = self._anchor.path(self._directories.memory)
        for name, text in self._network.files.items():
            (shared / name).write_text(text)
            (shared / name).chmod(0o644)
        if self._network.own:
            (shared / "sys").mkdir()
            await self._anchor.mount("sysfs", self._sysfs, options="ro,nosuid,nodev,noexec")
        if self._devices:
            await make_devices(self._anchor, self._devices)
        (shared / "shm").mkdir()
        # Half of what the job may use is tmpfs's own default; the job's limit holds in any case.
        await self._anchor.mount(
            "tmpfs", f"{self._directories.memory}/shm", options="mode=1777,nosuid,nodev,noexec"
        )
        self._take_credentials()

    async def pull(self, container: Mapping[str, Any], *, tell: Tell) -> Image:
        if self._refused and self._plan.pod["spec"].get("imagePullSecrets"):
            await self.refresh()
        try:
            return await self._images.ensure(
                container.get("image") or "", policy=container.get("imagePullPolicy"), tell=tell
            )
        except ImageError:
            self._refused = True
            raise

    async def refresh(self) -> None:
        new = await self._replan()
        if new:
            self._plan = refreshed(self._plan, newer=new)
            self._take_credentials()

    async def start(
        self, container: Mapping[str, Any], *, image: Image, restart: int, log: LogFile
    ) -> Started:
        name = container["name"]
        layer = self._directories.container(name, restart)
        bundle = self._directories.bundle(name, restart)
        message = f"{self._directories.memory}/messages/{name}.{restart}"
        spec = self._spec(container, image=image, message=message)
        spec = self._possible(spec, name=name)
        uid = self._plan.pod["metadata"]["uid"]
        place = Place(
            id=f"slurmlet-{uid}-{name}-{restart}",
            rootfs=f"{layer}/root",
            bundle=bundle,
            anchor=self._anchor,
            sysfs=self._sysfs,
            devices=self._devices,
        )
        try:
            make_message_file(self._anchor.path(message))
            await self._mount_root(image, layer=layer, bundle=bundle)
            make_mount_point(self._anchor.path(place.rootfs), spec.directory, directory=True)
            whole = with_init(spec, pod=self._plan.pod)
            launch = self._engine.launch(whole, place)
            process, copies, failure = spawn_logged(
                self._anchor.enter(launch.arguments), environment=launch.environment, log=log
            )
        except OSError as error:
            raise ProcessError(f"{error.filename}: {error.strerror}") from None
        announcement = None
        if self._hints:
            announcement = Announcement(
                self._hints,
                name,
                find=lambda: container_init(process.pid, anchor=self._anchor.pid),
                directory=spec.directory,
                environment=spec.environment,
            )
        return EngineStarted(
            announcement=announcement,
            id=place.id,
            container=container,
            process=process,
            copies=copies,
            failure=failure,
            log=log,
            anchor=self._anchor,
            engine=self._engine,
            error_file=launch.error_file,
            message_file=message,
            remove=(layer, bundle),
            oom=self._oom,
            init=whole.arguments[0] == PATH,
        )

    def _spec(self, container: Mapping[str, Any], *, image: Image, message: str) -> ContainerSpec:
        try:
            own = resolve_environment(container, self._plan)
            mounts = container_mounts(
                container,
                plan=self._plan,
                volumes=self._volumes,
                anchor=self._anchor,
                environment=own,
            )
        except (ResolveError, VolumeError) as error:
            raise SpecError(str(error)) from None
        return container_spec(
            container,
            plan=self._plan,
            image=image,
            own=own,
            mounts=self._standard_mounts(container, message=message, asked=mounts) + mounts,
            passwd=_read_text(resolve_inside(image.rootfs, "/etc/passwd")),
            group=_read_text(resolve_inside(image.rootfs, "/etc/group")),
            ids=self._anchor.ids,
        )

    def _take_credentials(self) -> None:
        path = self._anchor.path(self._directories.auth_file)
        try:
            problems = give_credentials(self._plan, path)
        except OSError as error:
            raise ProcessError(f"{error.filename}: {error.strerror}") from None
        if problems:
            message = f"Unable to use some image pull secrets: {'; '.join(problems)}"
            reason = "FailedToRetrieveImagePullSecret"
            self._tell(Event(reason=reason, message=message, kind="Warning"))

    def _possible(self, spec: ContainerSpec, *, name: str) -> ContainerSpec:
        """What of it the engine can bring into a container. Raises ProcessError."""
        try:
            kept, left_out = limits.possible(spec, self._engine, room=limits.room())
        except limits.LimitError as error:
            raise ProcessError(str(error)) from None
        if left_out:
            message = (
                f"Left out of the environment, because {self._engine.name} cannot set such names:"
                f" {', '.join(left_out)}"
            )
            reason = "InvalidEnvironmentVariableNames"
            self._tell(Event(reason=reason, message=message, kind="Warning", container=name))
        return kept

    def _standard_mounts(
        self, container: Mapping[str, Any], *, message: str, asked: tuple[Mount, ...]
    ) -> tuple[Mount, ...]:
        memory = self._directories.memory
        standard = (
            *(
                Mount(source=f"{memory}/{name}", target=f"/etc/{name}", directory=False)
                for name in self._network.files
            ),
            Mount(source=f"{memory}/shm", target="/dev/shm"),
            Mount(source=message, target=message_path(container), directory=False),
        )
        targets = {mount.target for mount in asked}
        return tuple(mount for mount in standard if mount.target not in targets)

    async def _mount_root(self, image: Image, *, layer: str, bundle: str) -> None:
        self._anchor.path(bundle).mkdir(mode=0o700, parents=True)
        for part in ("upper", "work", "root"):
            # The root directory's own mode is the upper one's.
            Path(layer, part).mkdir(mode=0o755, parents=True)  # noqa: ASYNC240 - node-local
            Path(layer, part).chmod(0o755)  # noqa: ASYNC240
        # userxattr: trusted.* attributes are for the initial user namespace only.
        await self._anchor.mount(
            "overlay",
            f"{layer}/root",
            options=f"userxattr,lowerdir={image.rootfs},upperdir={layer}/upper,workdir={layer}/work",
        )


class EngineStarted:
    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - as the engines call it
        container: Mapping[str, Any],
        process: Process,
        copies: list[asyncio.Task[None]],
        failure: asyncio.Task[bytes],
        log: LogFile,
        anchor: Anchor,
        engine: Engine,
        error_file: str | None,
        message_file: str,
        remove: tuple[str, ...],
        oom: OomCounter,
        init: bool,
        announcement: Announcement | None,
    ) -> None:
        self._init = init
        self.id = id
        self._announcement = announcement
        self._container = container
        self._process = process
        self._copies = copies
        self._failure = failure
        self._log = log
        self._anchor = anchor
        self._engine = engine
        self._error_file = error_file
        self._message_file = message_file
        self._remove = remove
        self._oom = oom
        self._oom_before = oom.read()
        self._killed = False

    async def wait(self) -> Exit:
        code = await self._process.wait()
        if self._announcement:
            self._announcement.withdraw()
        ends = (*self._copies, self._failure)
        _, late = await asyncio.wait(ends, timeout=_DRAIN_TIMEOUT)
        for end in late:
            end.cancel()
        self._log.finish()
        error = "" if self._failure in late else self._failure.result().decode(errors="replace")
        if code != 0 and not error:
            said = (
                _read_text(self._anchor.path(self._error_file))
                if self._error_file
                else log_end(self._log.text).decode(errors="replace")
            )
            error = self._engine.error(said, code=code)
        if error:
            return Exit(code=START_FAILED, error=error)
        code = code if code >= 0 else 128 - code
        # The job's containers share a cgroup: only a kill that is not ours can be the kernel's.
        kernel = code == KILLED and not self._killed and self._oom.read() > self._oom_before
        message = read_message(
            self._container,
            file=self._anchor.path(self._message_file),
            log=self._log.text,
            failed=code != 0,
        )
        return Exit(code=code, message=message, out_of_memory=kernel)

    def signal(self, number: int) -> bool:
        self._killed = self._killed or number == signal.SIGKILL
        init = container_init(self._process.pid, anchor=self._anchor.pid)
        if init is not None and number != signal.SIGKILL and not self._ready(init):
            return False
        if init is not None:
            with suppress(ProcessLookupError):
                os.kill(init, number)
            return True
        if number == signal.SIGKILL:
            # The engine itself, in the middle of a start.
            for pid in children(self._process.pid):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        return False

    def _ready(self, init: int) -> bool:
        """Not before our init has blocked its signals, and then started the application: until
        then the kernel drops them, as for any PID 1 (pid_namespaces(7))."""
        return not self._init or (runs(init, PATH) and bool(children(init)))

    async def clean(self) -> None:
        with suppress(ProcessError):
            await self._anchor.run(["umount", "--lazy", "--", f"{self._remove[0]}/root"])
            await self._anchor.run(["rm", "-rf", "--one-file-system", "--", *self._remove])


def _read_text(path: Path) -> str:
    return read_text(path, limit=_MAX_ACCOUNTS)
