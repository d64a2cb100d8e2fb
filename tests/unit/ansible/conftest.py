"""The scripts of the collection run on nodes by themselves; tests load them by their path."""

import importlib.util
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ANSIBLE = Path(__file__).parents[3] / "ansible"


@pytest.fixture(scope="session")
def load() -> Callable[[str], ModuleType]:
    def by_path(path: str) -> ModuleType:
        name = Path(path).stem
        loader = SourceFileLoader(name, str(ANSIBLE / path))
        spec = importlib.util.spec_from_loader(name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module

    return by_path
