"""The foreground runner: etcd, API server and controller-manager as children of this process."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

from slurmlet.controlplane import layout, pki
from slurmlet.controlplane.certificates import Request
from slurmlet.controlplane.config import Config
from slurmlet.controlplane.errors import ControlPlaneError
from slurmlet.controlplane.probe import Probe
from slurmlet.controlplane.store import Store
from slurmlet.controlplane.watchdog import Watchdog

READY_TIMEOUT_S = 120.0
"""Ready after 5 s on idle cores; two busy cores may need ten times that."""
POLL_S = 0.1
FREE_MIB = 160
"""etcd allocates its write-ahead log in pieces of 64 MB, and keeps a spare one."""
LOG_LIMIT = 64 * 1024 * 1024
"""A log larger than this at start is set aside, in place of the one set aside before."""


def local_config(
    directory: Path,
    *,
    bin_dir: Path,
    address: str = "127.0.0.1",
    ports: tuple[int, int, int, int] = (6443, 2379, 2380, 10257),
    fsync: bool = True,
) -> Config:
    """A config whose state all lies under `directory`; a port of 0 means any free one."""
    taken = iter(free_ports(address, ports.count(0)))
    secure, client, peer, controller = (port or next(taken) for port in ports)
    return Config(
        advertise_address=address,
        bind_address=address,
        secure_port=secure,
        etcd_client_port=client,
        etcd_peer_port=peer,
        controller_manager_port=controller,
        pki_dir=directory / "pki",
        data_dir=directory,
        bin_dir=bin_dir,
        etcd_fsync=fsync,
    )


def free_ports(address: str, count: int) -> list[int]:
    """Ports that are free now; all are held until the last is found, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(_socket(address)) for _ in range(count)]
        for one in sockets:
            one.bind((address, 0))
        return [int(one.getsockname()[1]) for one in sockets]


class ControlPlane:
    """A control plane that lives as long as the `with` block; its data stay in `config.data_dir`.

    Entering it raises ControlPlaneError, in one line, for a port in use, a missing program, a full
    disk, an unreadable key, a directory that is already in use.
    """

    def __init__(
        self,
        config: Config,
        request: Request,
        *,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.config = config
        self._request = layout.named(request, config)
        self._report = report
        self._lock: IO[str] | None = None
        self._watchdog: Watchdog | None = None
        self._probe: Probe | None = None
        self.server = layout.api_url(config)

    @property
    def admin_conf(self) -> Path:
        """kubeconfig of the cluster's admin."""
        return self.config.pki_dir / "admin.conf"

    def user_conf(self, user: str) -> Path:
        """kubeconfig of one of the requested users."""
        return self.config.pki_dir / "users" / f"{user}.conf"

    @property
    def pids(self) -> dict[str, int]:
        """The running children by name."""
        return self._watchdog.pids if self._watchdog else {}

    @property
    def probe(self) -> Probe:
        """Requests as admin, for whoever started this."""
        if self._probe is None:
            raise ControlPlaneError("the control plane is not started")
        return self._probe

    def __enter__(self) -> "ControlPlane":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts all and returns when the API server and the controllers work."""
        directory = self.config.data_dir
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            (directory / "log").mkdir(mode=0o700, exist_ok=True)
            self._lock = _lock(directory)
        except OSError as error:
            raise _unusable(directory, error) from None
        processes = layout.processes(self.config)
        _check_programs(processes)
        _check_ports(processes)
        _check_space(directory)
        pki.ensure(Store(self.config.pki_dir), self._request, server=self.server)
        self._probe = Probe(
            address=self.config.bind_address,
            port=self.config.secure_port,
            controller_manager_port=self.config.controller_manager_port,
            pki_dir=self.config.pki_dir,
        )
        for one in processes:
            _set_aside(self.log(one.name))
        self._watchdog = Watchdog(processes, log=self.log, report=self._report)
        self._watchdog.start()
        self.wait_ready()

    def wait_ready(self, timeout: float = READY_TIMEOUT_S) -> None:
        """Returns when all work; raises ControlPlaneError after `timeout` seconds."""
        assert self._watchdog is not None
        deadline = time.monotonic() + timeout
        while True:
            missing = self.probe.not_ready()
            if missing is None:
                self._watchdog.settled()
                return
            failure = self._watchdog.failure
            if failure:
                raise ControlPlaneError(failure)
            if time.monotonic() > deadline:
                raise ControlPlaneError(
                    f"not ready after {timeout:.0f} s: {missing} (logs: {self.log('')})"
                )
            time.sleep(POLL_S)

    def log(self, name: str) -> Path:
        """Where a child's output goes."""
        return self.config.data_dir / "log" / (f"{name}.log" if name else "")

    def stop(self) -> None:
        """Stops all children, the last started first. Safe to call twice."""
        if self._watchdog:
            self._watchdog.stop()
            self._watchdog = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def run_until_signalled(self) -> None:
        """Blocks until SIGTERM, SIGINT or SIGHUP; raises ControlPlaneError if supervision fails."""
        assert self._watchdog is not None
        over = self._watchdog.over
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: over.set())
        over.wait()
        if self._watchdog.failure:
            raise ControlPlaneError(self._watchdog.failure)


def _lock(directory: Path) -> IO[str]:
    lock = (directory / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise ControlPlaneError(
            f"a control plane already runs in {directory} (pid {owner}): nothing was changed"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _check_programs(processes: tuple[layout.Process, ...]) -> None:
    for one in processes:
        program = Path(one.argv[0])
        if not os.access(program, os.X_OK):
            raise ControlPlaneError(
                f"{program} is missing or not executable: `slurmlet-controlplane build` makes it"
            )


def _check_ports(processes: tuple[layout.Process, ...]) -> None:
    for one in processes:
        for address, port in one.listens:
            with _socket(address) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((address, port))
                except OSError as error:
                    raise _cannot_listen(one.name, address, port, error) from None


def _cannot_listen(name: str, address: str, port: int, error: OSError) -> ControlPlaneError:
    where = f"port {port} on {address} for {name}"
    if error.errno == errno.EADDRINUSE:
        return ControlPlaneError(f"{where} is in use: stop what listens there, or choose another")
    if error.errno == errno.EADDRNOTAVAIL:
        return ControlPlaneError(f"{where}: this host does not have that address")
    return ControlPlaneError(f"{where} cannot be opened: {error.strerror}")


def _check_space(directory: Path) -> None:
    free = shutil.disk_usage(directory).free // 1024**2
    if free < FREE_MIB:
        raise ControlPlaneError(
            f"disk full: {directory} has {free} MiB free, etcd needs {FREE_MIB}: free some space"
        )


def _set_aside(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))


def _socket(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM)


def _unusable(directory: Path, error: OSError) -> ControlPlaneError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ControlPlaneError(f"disk full: {directory} could not be written")
    return ControlPlaneError(f"{directory} cannot be used: {error.strerror}")
