"""docs/annotations.md says what the code accepts."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from slurmlet.contracts import aliases, annotations, names, podfields

_TOOL = Path(__file__).parents[2] / "tools" / "gen_annotations.py"
_SPEC = importlib.util.spec_from_file_location("gen_annotations", _TOOL)
assert _SPEC and _SPEC.loader
generator = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = generator
_SPEC.loader.exec_module(generator)

_EXAMPLES = [
    (name, example) for name, (_, examples) in generator.OPTIONS.items() for example in examples
]


def test_the_page_is_current() -> None:
    assert generator.PAGE.read_text() == generator.page(), f"run {_TOOL.name} and commit the page"


def test_every_option_is_described() -> None:
    assert generator.OPTIONS.keys() == annotations.OPTIONS.keys()


def test_every_annotation_that_we_write_is_described() -> None:
    written = {
        value
        for name, value in vars(names).items()
        if name.endswith("_ANNOTATION") and value.startswith(names.STATUS_PREFIX)
    }
    assert generator.WRITTEN.keys() == written


@pytest.mark.parametrize(("name", "example"), _EXAMPLES)
def test_every_example_is_accepted(name: str, example: str) -> None:
    asked = (
        annotations.read_annotations({names.FLAGS_ANNOTATION: f"--{name}={example}"})
        if name in annotations.FLAGS_ONLY
        else annotations.read_annotations({names.PREFIX + name: example})
    )
    assert not asked.errors
    assert asked.options == {name: example}


def test_every_placeholder_of_the_page_is_filled() -> None:
    left = set(re.findall(r"\b[A-Z]{4,}\b", generator.page()))
    assert not left & set(re.findall(r"\b([A-Z]{4,})=", _TOOL.read_text()))


def test_every_known_system_is_on_the_page() -> None:
    page = generator.page()
    keys = {*aliases.FOREIGN, *aliases.ALIASES, *aliases.FLAG_ALIASES, *aliases.REFUSED}
    assert all(f"`{key}`" in page for key in keys)


def test_every_field_of_the_table_is_on_the_page() -> None:
    ruled = [f for rule in (*podfields.REFUSALS, *podfields.WARNINGS) for f in rule.fields]
    fields = {*ruled, *podfields.HARMLESS, *podfields.HONOURED}
    page = generator.page()
    assert all(f"`{field.replace('=', ': ')}`" in page for field in fields)
