"""Files below a foreign root."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurmlet.supervisor.files import make_mount_point, resolve_inside, write_whole


@pytest.mark.parametrize(
    ("link", "target", "inner", "result"),
    [
        ("data", "/etc", "/data/x", "etc/x"),
        ("data", "../../../etc", "/data/x", "etc/x"),
        ("a/b", "/c", "/a/b/../d", "d"),
        ("data", "data", "/other", "other"),
    ],
)
def test_links_lead_nowhere_outside(
    tmp_path: Path, link: str, target: str, inner: str, result: str
) -> None:
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(target)
    assert resolve_inside(tmp_path, inner) == tmp_path / result


def test_circles_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        resolve_inside(tmp_path, "/a")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["..", ".", "a", "l", "m", "/"]), max_size=8))
def test_no_path_leads_outside(tmp_path: Path, parts: list[str]) -> None:
    for name, target in (("l", "/../.."), ("m", "../../a/l")):
        if not (tmp_path / name).is_symlink():
            (tmp_path / name).symlink_to(target)
    found = resolve_inside(tmp_path, "/".join(parts))
    assert found == tmp_path or tmp_path in found.parents
    assert ".." not in found.parts


def test_mount_points_can_be_entered_by_everyone(tmp_path: Path) -> None:
    make_mount_point(tmp_path, "/a/b", directory=True)
    make_mount_point(tmp_path, "/c/f", directory=False)
    for path, mode in (("a", 0o755), ("a/b", 0o755), ("c", 0o755), ("c/f", 0o644)):
        assert (tmp_path / path).stat().st_mode & 0o777 == mode
    (tmp_path / "c/f").write_text("kept")
    make_mount_point(tmp_path, "/c/f", directory=False)
    assert (tmp_path / "c/f").read_text() == "kept"


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "exit.json", b"1")
    write_whole(tmp_path / "exit.json", b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["exit.json"]
    assert (tmp_path / "exit.json").read_bytes() == b"2"
    assert (tmp_path / "exit.json").stat().st_mode & 0o777 == 0o600
