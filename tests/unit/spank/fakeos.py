"""The core's operating system, replaced: a tree of files, processes and namespaces, and faults."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from slurmlet.spank._core import ffi, lib
from slurmlet.spank.kernel import KINDS

NSFS = 0x6E736673
TMPFS = 0x01021994
JOBS = "/run/slurmlet/jobs"
BOOT = "795582be-d641-4df5-ae5f-f07e9e61c4d5"
UID = 2001
JOB = 12
NS_DEVICE = 4


@dataclass
class Node:
    """What is at a path. `target` is what a namespace's parent or owner is, by path."""

    content: bytes = b""
    mode: int = stat.S_IFREG | 0o644
    uid: int = 0
    device: int = 1
    inode: int = 1
    filesystem: int = TMPFS
    size: int | None = None
    owner: str = ""
    parent: str = ""


def directory(uid: int = 0, mode: int = 0o755) -> Node:
    return Node(mode=stat.S_IFDIR | mode, uid=uid)


def namespace(inode: int, *, owner: str = "", parent: str = "") -> Node:
    return Node(
        mode=stat.S_IFREG | 0o444,
        device=NS_DEVICE,
        inode=inode,
        filesystem=NSFS,
        owner=owner,
        parent=parent,
    )


@dataclass
class FakeOS:
    """Give `ops` to the core. `faults` maps (function, path) to the errno of its failure, `events`
    the number of a call to what happens just before it, which may return an errno, too; `done`
    lists what changed the process."""

    nodes: dict[str, Node] = field(default_factory=dict)
    faults: dict[tuple[str, str], int] = field(default_factory=dict)
    events: dict[int, Callable[[], int]] = field(default_factory=dict)
    done: list[tuple[str, ...]] = field(default_factory=list)
    joined: list[Node] = field(default_factory=list)
    living: bool = True
    uid: int = UID
    open_fds: dict[int, str] = field(default_factory=dict)
    opened: dict[int, Node] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    _next: int = 100
    _kept: list[Any] = field(default_factory=list)

    def ops(self) -> Any:
        ops = ffi.new("struct slurmlet_ops *")
        for name, kind in (
            ("open", "int(void *, int, const char *, int)"),
            ("close", "int(void *, int)"),
            ("read", "ssize_t(void *, int, void *, size_t)"),
            ("status", "int(void *, int, struct slurmlet_status *)"),
            ("join", "int(void *, int, int)"),
            ("owner", "int(void *, int)"),
            ("parent", "int(void *, int)"),
            ("process", "int(void *, int)"),
            ("alive", "int(void *, int)"),
            ("root", "int(void *, int)"),
            ("uid", "int64_t(void *)"),
        ):
            callback = ffi.callback(kind, getattr(self, f"_{name}"))
            self._kept.append(callback)
            setattr(ops, name, callback)
        self._kept.append(ops)
        return ops

    def _fault(self, function: str, path: str) -> int:
        event = self.events.get(len(self.calls))
        self.calls.append((function, path))
        happened = event() if event else 0
        return -(happened or self.faults.get((function, path), 0))

    def _give(self, path: str) -> int:
        self._next += 1
        self.open_fds[self._next] = path
        # What is put at the path later is another file.
        self.opened[self._next] = self.nodes[path]
        self.offsets[self._next] = 0
        return self._next

    def _open(self, _: Any, at: int, name: Any, flags: int) -> int:
        text = ffi.string(name).decode()
        path = text if text.startswith("/") else f"{self.open_fds[at]}/{text}"
        fault = self._fault("open", path)
        if fault:
            return fault
        node = self.nodes.get(path)
        if node is None:
            return -errno.ENOENT
        if stat.S_ISLNK(node.mode) and flags & os.O_NOFOLLOW and not flags & os.O_PATH:
            return -errno.ELOOP
        if stat.S_ISFIFO(node.mode):
            assert flags & os.O_NONBLOCK, "opening a FIFO would hang"
        if flags & os.O_DIRECTORY and not stat.S_ISDIR(node.mode):
            return -errno.ENOTDIR
        return self._give(path)

    def _close(self, _: Any, fd: int) -> int:
        del self.open_fds[fd]
        return 0

    def _read(self, _: Any, fd: int, buffer: Any, size: int) -> int:
        path = self.open_fds[fd]
        fault = self._fault("read", path)
        if fault:
            return fault
        # Short reads, as a kernel may give.
        data = self.opened[fd].content[self.offsets[fd] :][: min(size, 1000)]
        self.offsets[fd] += len(data)
        ffi.memmove(buffer, data, len(data))
        return len(data)

    def _status(self, _: Any, fd: int, status: Any) -> int:
        path = self.open_fds[fd]
        fault = self._fault("status", path)
        if fault:
            return fault
        node = self.opened[fd]
        status.device, status.inode, status.mode = node.device, node.inode, node.mode
        status.uid, status.filesystem = node.uid, node.filesystem
        status.size = len(node.content) if node.size is None else node.size
        return 0

    def _join(self, _: Any, fd: int, kind: int) -> int:
        path = self.open_fds[fd]
        fault = self._fault("join", path)
        if fault:
            return fault
        name = next(k for i, k in enumerate(KINDS) if lib.slurmlet_kind_flag(i) == kind)
        self.done.append(("join", name, path))
        self.joined.append(self.opened[fd])
        return 0

    def _relative(self, function: str, fd: int) -> int:
        path = self.open_fds[fd]
        fault = self._fault(function, path)
        if fault:
            return fault
        target = getattr(self.opened[fd], function)
        return self._give(target) if target else -errno.EPERM

    def _owner(self, _: Any, fd: int) -> int:
        return self._relative("owner", fd)

    def _parent(self, _: Any, fd: int) -> int:
        return self._relative("parent", fd)

    def _process(self, _: Any, pid: int) -> int:
        return self._fault("process", str(pid)) or self._give(f"/proc/{pid}")

    def _alive(self, _: Any, fd: int) -> int:
        return self._fault("alive", self.open_fds[fd]) or int(self.living)

    def _root(self, _: Any, fd: int) -> int:
        path = self.open_fds[fd]
        fault = self._fault("root", path)
        if fault:
            return fault
        self.done.append(("root", path))
        return 0

    def _uid(self, _: Any) -> int:
        return self.uid


def message() -> Any:
    return ffi.new("struct slurmlet_message *")


def text_of(why: Any) -> str:
    return str(ffi.string(why.text).decode(errors="replace"))


def target_of(text: str) -> Any:
    target = ffi.new("struct slurmlet_target *")
    assert lib.slurmlet_target_parse(text.encode(), target, ffi.NULL) == 0
    return target
