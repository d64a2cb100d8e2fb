import errno
import fcntl
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from slurmlet.controlplane import build, golang
from slurmlet.controlplane.binaries import BINARIES, DEFAULT_SET, KUBERNETES_VERSION, Binary
from slurmlet.controlplane.errors import ControlPlaneError
from slurmlet.controlplane.process import Finished


class FakeGo:
    version = "go1.26.8"

    def __init__(self, *, failure: Finished | None = None, forget: str = "") -> None:
        self.built: list[str] = []
        self.failure = failure
        self.forget = forget

    def compile(
        self,
        binaries: Sequence[Binary],
        *,
        source: Path,
        ldflags: str,
        dest: Path,
        log: Path,
        tick: Callable[[float], None],
    ) -> Finished:
        tick(75.0)
        if self.failure:
            return self.failure
        for binary in binaries:
            self.built.append(binary.name)
            if binary.name != self.forget:
                (dest / binary.name).write_text(f"{binary.package} {ldflags}")
        return Finished(0, "")


class Site:
    def __init__(self, root: Path) -> None:
        self.cache = root / "cache"
        self.source = root / "go"
        self.lines: list[str] = []
        for module in ("kubernetes", "etcd", "coredns"):
            (self.source / module).mkdir(parents=True)
            (self.source / module / "go.mod").write_text(f"module {module}\n")

    def build(self, *names: str, go: golang.Toolchain) -> Path:
        return build.ensure(
            names,
            cache=self.cache,
            source=self.source,
            find_go=lambda: go,
            report=self.lines.append,
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv(build.READY_VARIABLE, raising=False)
    return Site(tmp_path)


def test_the_default_set_is_built_once(site: Site) -> None:
    go = FakeGo()
    entry = site.build(go=go)
    assert sorted(go.built) == sorted(DEFAULT_SET)
    assert all(os.access(entry / name, os.X_OK) for name in DEFAULT_SET)
    assert any("1 min 15 s" in line for line in site.lines)
    again = FakeGo()
    assert site.build(go=again) == entry
    assert again.built == []


def test_a_further_program_joins_the_same_directory(site: Site) -> None:
    entry = site.build("etcd", go=FakeGo())
    go = FakeGo()
    assert site.build("etcd", "agnhost", go=go) == entry
    assert go.built == ["agnhost"]


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_damaged_binary_is_reported_and_built_again(site: Site, damage: bytes | None) -> None:
    entry = site.build("etcd", "kubectl", go=FakeGo())
    good = (entry / "etcd").read_bytes()
    if damage is None:
        (entry / "etcd").chmod(0o644)
    else:
        (entry / "etcd").write_bytes(damage)
    site.lines.clear()
    go = FakeGo()
    site.build("etcd", "kubectl", go=go)
    assert go.built == ["etcd"]
    assert (entry / "etcd").read_bytes() == good
    assert sum("is damaged" in line and "etcd" in line for line in site.lines) == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xfe nonsense\n", b"abc\n"])
def test_a_damaged_checksum_file_costs_a_build_and_no_error(site: Site, content: bytes) -> None:
    entry = site.build("etcd", go=FakeGo())
    (entry / build.SUMS).write_bytes(content)
    go = FakeGo()
    site.build("etcd", go=go)
    assert go.built == ["etcd"]


def test_leftovers_of_a_killed_build_do_no_harm(site: Site) -> None:
    entry = site.build("etcd", go=FakeGo())
    (entry / ".building-kubernetes").mkdir()
    (entry / ".building-kubernetes" / "kubectl").write_text("half")
    site.build("kubectl", go=FakeGo())
    assert (entry / "kubectl").read_text() != "half"
    assert not (entry / ".building-kubernetes").exists()


def test_what_is_there_is_used_while_another_build_runs(site: Site) -> None:
    entry = site.build("etcd", go=FakeGo())
    with entry.with_name(f"{entry.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert site.build("etcd", go=FakeGo()) == entry


def test_the_key_follows_pins_sources_and_go(site: Site) -> None:
    first = build.key(site.source, "go1.26.8")
    assert build.key(site.source, "go1.26.8") == first
    assert build.key(site.source, "go1.26.9") != first
    (site.source / "etcd" / "go.mod").write_text("module etcd // newer\n")
    second = build.key(site.source, "go1.26.8")
    assert second != first
    (site.source / "coredns" / "main.go").write_text("package main\n")
    assert build.key(site.source, "go1.26.8") != second


def test_a_full_disk_during_the_build_is_one_line(site: Site) -> None:
    output = "link: /tmp/x: write: no space left on device\nlink: exit 1"
    with pytest.raises(ControlPlaneError) as caught:
        site.build(go=FakeGo(failure=Finished(1, output)))
    assert str(caught.value).startswith("disk full: ")
    assert "\n" not in str(caught.value)
    assert str(site.cache) in str(caught.value)


def test_a_full_disk_is_seen_before_the_build(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(site.source)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    go = FakeGo()
    with pytest.raises(ControlPlaneError, match=r"disk full: .*1 MiB free, \d+ MiB needed"):
        site.build(go=go)
    assert go.built == []


def test_a_full_disk_for_the_cache_itself_is_one_line(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ControlPlaneError, match=r"^disk full: "):
        site.build(go=FakeGo())


def test_a_failed_build_is_one_line_with_the_log(site: Site) -> None:
    output = "# k8s.io/x\nfile.go:1: undefined: y\n"
    with pytest.raises(ControlPlaneError) as caught:
        site.build("etcd", go=FakeGo(failure=Finished(1, output)))
    assert "undefined: y" in str(caught.value)
    assert "build-etcd.log" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_that_go_did_not_write_is_an_error(site: Site) -> None:
    with pytest.raises(ControlPlaneError, match="did not write etcd"):
        site.build("etcd", go=FakeGo(forget="etcd"))


def test_an_unknown_name_lists_the_known_ones(site: Site) -> None:
    with pytest.raises(ControlPlaneError, match=r"'etc' cannot be built.*etcd"):
        site.build("etc", go=FakeGo())


def test_ready_binaries_need_no_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = site.cache.parent / "ready"
    ready.mkdir()
    (ready / "etcd").write_text("x")
    (ready / "etcd").chmod(0o755)
    monkeypatch.setenv(build.READY_VARIABLE, str(ready))

    def no_go() -> golang.Toolchain:
        raise AssertionError("Go was looked for")

    def ensure(name: str) -> Path:
        return build.ensure(
            [name], cache=site.cache, source=site.source, find_go=no_go, report=site.lines.append
        )

    assert ensure("etcd") == ready
    with pytest.raises(ControlPlaneError, match="no executable kubectl"):
        ensure("kubectl")


def test_entries_of_old_pins_are_removed_after_a_while(site: Site) -> None:
    old = site.build("etcd", go=FakeGo())
    (site.source / "etcd" / "go.mod").write_text("module etcd // newer\n")
    recent = site.build("etcd", go=FakeGo())
    assert old.exists()
    os.utime(old / build.SUMS, (0, 0))
    assert site.build("etcd", "kubectl", go=FakeGo()) == recent
    assert not old.exists() and recent.exists()


@pytest.mark.parametrize(
    ("version", "enough"),
    [("go1.26.0", True), ("go1.27", True), ("go2.0", True), ("go1.25.9", False), ("devel", False)],
)
def test_go_versions(version: str, enough: bool) -> None:
    assert golang.new_enough(version) is enough


def fake_program(path: Path, version: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)


@pytest.fixture
def no_other_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing in it, and a Python that cannot fetch."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "lib"))
    fetcher = tmp_path / "python"
    fetcher.write_text("#!/bin/sh\necho 'ERROR: no network' >&2\nexit 1\n")
    fetcher.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fetcher))
    return tmp_path


def test_missing_go_is_one_line(no_other_go: Path) -> None:
    with pytest.raises(ControlPlaneError) as caught:
        golang.find(cache=no_other_go, report=lambda _: None)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in ("Go >= 1.26", "no go in PATH", "no network"))
    assert build.READY_VARIABLE in message


def test_old_go_is_named_and_passed_over(no_other_go: Path) -> None:
    fake_program(no_other_go / "bin" / "go", "go1.19.8")
    with pytest.raises(ControlPlaneError, match=r"bin/go is go1\.19\.8"):
        golang.find(cache=no_other_go, report=lambda _: None)
    fake_program(no_other_go / "lib" / "go" / "bin" / "go", "go1.26.6")
    found = golang.find(cache=no_other_go, report=lambda _: None)
    assert found.version == "go1.26.6"


def test_the_stamped_version_is_the_pinned_one() -> None:
    pins = (build.source_root() / "kubernetes" / "go.mod").read_text()
    required = re.search(r"^require k8s.io/kubernetes (\S+)$", pins, re.MULTILINE)
    assert required and required[1] == KUBERNETES_VERSION


def test_every_program_is_pinned_by_its_module() -> None:
    for binary in BINARIES.values():
        pins = (build.source_root() / binary.module / "go.mod").read_text()
        words = (line.removeprefix("require").split() for line in pins.splitlines())
        modules = {parts[0] for parts in words if len(parts) > 1 and parts[1].startswith("v")}
        own = f"slurmlet/controlplane/{binary.module}"
        assert binary.package.startswith((own, *modules)), binary
