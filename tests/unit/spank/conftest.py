"""The core that the tests are about: that of the tree, or $SLURMLET_TEST_CORE."""

import os
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location

NAME = "slurmlet.spank._core"


def _load(path: str) -> None:
    loader = ExtensionFileLoader(NAME, path)
    spec = spec_from_file_location(NAME, path, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[NAME] = module
    loader.exec_module(module)


if given := os.environ.get("SLURMLET_TEST_CORE"):
    _load(given)


def pytest_report_header() -> str | None:
    return f"core: {given}" if given else None
