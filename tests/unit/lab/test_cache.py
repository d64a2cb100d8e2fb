"""Cached directories: built once, found again, mended when corrupt, one clear line otherwise."""

import errno
import shutil
from pathlib import Path

import pytest

from slurmlab import cache
from slurmlab.errors import LabError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "slurmlet" / "lab"


class Builder:
    """Counts how often it builds."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, tree: Path) -> dict[str, object]:
        self.runs += 1
        (tree / "etc").mkdir()
        (tree / "etc" / "status").write_text("as built")
        return {"fact": self.runs}


def get(builder: Builder, said: list[str]) -> cache.Entry:
    return cache.cached("thing-1", build=builder, gib=0, say=said.append, watched=("etc/status",))


def test_a_second_use_builds_nothing(home: Path) -> None:
    builder, said = Builder(), list[str]()
    first, second = get(builder, said), get(builder, said)
    assert first == second
    assert builder.runs == 1
    assert second.stamp()["fact"] == 1
    assert (first.tree / "etc" / "status").read_text() == "as built"
    assert said == []


@pytest.mark.parametrize("damage", ["content", "missing", "stamp"])
def test_a_corrupt_entry_is_said_and_built_again(home: Path, damage: str) -> None:
    builder, said = Builder(), list[str]()
    entry = get(builder, said)
    if damage == "content":
        (entry.tree / "etc" / "status").write_text("cut sho")
    elif damage == "missing":
        shutil.rmtree(entry.tree / "etc")
    else:
        (entry.path / cache.STAMP).write_text("{")
    mended = get(builder, said)
    assert builder.runs == 2
    assert mended.problem() is None
    assert len(said) == 1
    assert "corrupt" in said[0]
    assert str(entry.path) in said[0]


def test_a_failed_build_leaves_nothing(home: Path) -> None:
    def build(tree: Path) -> dict[str, object]:
        (tree / "half").write_text("")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(LabError, match=r"thing-2 .* No space left on device"):
        cache.cached("thing-2", build=build, gib=0, say=print)
    assert not (home / "thing-2").exists()
    assert list((home / "tmp").iterdir()) == []


def test_what_a_killed_build_left_is_removed(home: Path) -> None:
    left = home / "tmp" / "other-9.4194999"  # above the kernel's largest pid
    left.mkdir(parents=True)
    get(Builder(), [])
    assert not left.exists()


def test_a_full_disk_is_one_clear_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(LabError, match=r"has 1.0 GiB free, the lab needs 4"):
        cache.require_space(home, gib=4)


def test_the_key_follows_names_modes_and_contents(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    script = recipe / "build.sh"
    script.write_text("true")
    keys = [cache.digest(recipe, "trixie")]
    script.chmod(0o755)
    keys.append(cache.digest(recipe, "trixie"))
    script.write_text("false")
    keys.append(cache.digest(recipe, "trixie"))
    script.rename(recipe / "other.sh")
    keys.append(cache.digest(recipe, "trixie"))
    keys.append(cache.digest(recipe, "sid"))
    assert len(set(keys)) == len(keys)
    assert cache.digest(recipe, "sid") == keys[-1]
