"""docs/reasons.md has each reason that Slurm may give for a waiting job."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

_TOOL = Path(__file__).parents[2] / "tools" / "gen_reasons.py"
_SPEC = importlib.util.spec_from_file_location("gen_reasons", _TOOL)
assert _SPEC and _SPEC.loader
generator = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = generator
_SPEC.loader.exec_module(generator)


def test_the_page_is_current() -> None:
    assert generator.PAGE.read_text() == generator.page(), f"run {_TOOL.name} and commit the page"


@pytest.mark.claim("Q1")
def test_every_word_of_each_release_is_on_the_page() -> None:
    words = set(re.findall(r"`(\w+)`", generator.page()))
    for release, names in generator.NAMES.items():
        assert set(names) <= words, release


def test_every_placeholder_of_the_page_is_filled() -> None:
    left = set(re.findall(r"\b[A-Z]{4,}\b", generator.page()))
    assert not left & set(re.findall(r"\b([A-Z]{4,})=", _TOOL.read_text()))
    assert not re.search(r"[{}]", generator.page())
