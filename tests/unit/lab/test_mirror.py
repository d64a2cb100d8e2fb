"""The mirror comes from whatever form the host's apt configuration has."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlab.errors import LabError
from slurmlab.mirror import OVERRIDE, choose, debian_mirror, parse_deb822, parse_one_line

ONE_LINE = """
# deb http://commented.example/debian trixie main
deb-src http://source.example/debian trixie main
deb http://security.example/debian-security trixie-security main
deb [arch=amd64 signed-by=/x.gpg] http://mirror.example/debian/ trixie main contrib  # ours
"""

DEB822 = """\
# a comment
Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb deb-src
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs:
 http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main
"""


@pytest.mark.parametrize(
    "entries", [list(parse_one_line(ONE_LINE)), list(parse_deb822(DEB822))], ids=["line", "deb822"]
)
def test_chosen_is_the_release_itself(entries: list[tuple[str, str, tuple[str, ...]]]) -> None:
    assert choose(entries) == "http://mirror.example/debian"


def test_files_of_both_kinds_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OVERRIDE, raising=False)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d" / "old.list.disabled").write_text("deb http://no.example sid main")
    assert debian_mirror(tmp_path) == "http://mirror.example/debian"


def test_without_a_mirror_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(OVERRIDE, raising=False)
    with pytest.raises(LabError, match=OVERRIDE):
        debian_mirror(tmp_path)
    monkeypatch.setenv(OVERRIDE, "http://given.example/debian/")
    assert debian_mirror(tmp_path) == "http://given.example/debian"


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    list(parse_one_line(text))
    list(parse_deb822(text))
