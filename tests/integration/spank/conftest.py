"""The build's programs, and headers of each Slurm release that is at hand."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SPANK = ROOT / "spank"
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
SECONDS = 300


def tool(name: str) -> Any:
    """A program of spank/, which is no package, as a module."""
    spec = importlib.util.spec_from_file_location(f"spank_{name}", SPANK / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def headers(suite: str) -> Path | None:
    """Those of the release that the lab's newest image of a suite has."""
    from slurmlab.cache import cache_dir

    images = sorted(cache_dir().glob(f"node-{suite}-*"), key=lambda path: path.stat().st_mtime)
    found = [image / "tree/usr/include" for image in images]
    return next((each for each in reversed(found) if (each / "slurm/spank.h").exists()), None)


@pytest.fixture(scope="session", params=["trixie", "sid"])
def include(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The directory with slurm/spank.h of a release."""
    found = headers(request.param)
    if found is None:
        pytest.skip(f"no headers of the Slurm of {request.param} are here: run make provision")
    yield found
