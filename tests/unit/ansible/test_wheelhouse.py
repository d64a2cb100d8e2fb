"""What a wheelhouse says about its wheels."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def wheelhouse(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("tools/wheelhouse")


def test_requirements_admit_exactly_the_wheels(wheelhouse: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "pydantic_core-2.50.4-cp313-cp313-manylinux_2_17_x86_64.whl"
    wheel.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert wheelhouse.requirements([wheel]) == f"pydantic-core==2.50.4 --hash=sha256:{digest}\n"


def test_a_bundle_is_named_by_its_content(wheelhouse: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "slurmlet-0.1.0-py3-none-any.whl"
    releases = []
    for content in (b"old", b"new", b"old"):
        wheel.write_bytes(content)
        bundle = wheelhouse._bundle(tmp_path, "compute", [wheel], python="3.13")
        releases.append(bundle["release"])
    assert releases[0] == releases[2] != releases[1]


def test_wheels_for_newer_glibc_than_the_nodes_have_are_not_taken(wheelhouse: ModuleType) -> None:
    platforms = wheelhouse._platforms(machine="x86_64", glibc="2.28")
    assert "manylinux_2_28_x86_64" in platforms
    assert "manylinux_2_34_x86_64" not in platforms
    assert "manylinux2014_x86_64" in platforms


def test_a_glibc_that_is_no_version_is_one_line(wheelhouse: ModuleType) -> None:
    with pytest.raises(wheelhouse.WheelhouseError, match="--glibc 'new'"):
        wheelhouse._platforms(machine="x86_64", glibc="new")
