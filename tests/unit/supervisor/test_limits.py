"""What no program can be given, and what it says."""

import os
import resource
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.supervisor.engines.interface import ContainerSpec, Mount
from slurmlet.supervisor.limits import MAX_TEXT, LimitError, check, room


def spec(*arguments: str, directory: str = "/", **environment: str) -> ContainerSpec:
    return ContainerSpec(
        arguments=arguments or ("true",),
        environment=environment,
        directory=directory,
        uid=0,
        gid=0,
    )


def problem(made: ContainerSpec, *, prefix: int = 0, room: int = 2**21) -> str:
    try:
        check(made, prefix=prefix, room=room)
    except LimitError as error:
        return str(error)
    return ""


def runs(made: ContainerSpec) -> bool:
    """Whether the kernel thinks so, too."""
    environment = {
        os.fsencode(name): value.encode(errors="surrogateescape")
        for name, value in made.environment.items()
    }
    try:
        subprocess.run(["/bin/true", *made.arguments], env=environment, check=True)
    except (OSError, ValueError):
        return False
    return True


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (spec(BIG="x" * MAX_TEXT), f'variable "BIG" takes {MAX_TEXT + 4} bytes, the kernel allows'),
        (spec("sh", "x" * (MAX_TEXT + 1)), "word 1 of command and args takes"),
        (spec(WORD="a\0secret"), 'variable "WORD" has a NUL character'),
        (spec("sh", "a\0"), "word 1 of command and args has a NUL"),
        (spec(WORD="secret\udcff"), 'variable "WORD" is not UTF-8'),
        (spec(**{f"V{number}": "x" * 100_000 for number in range(70)}), "together, at most"),
    ],
)
def test_what_cannot_be_started_is_named_with_a_remedy(made: ContainerSpec, words: str) -> None:
    said = problem(made, room=room())
    assert words in said
    assert "mount a ConfigMap or Secret as a volume" in said
    assert len(said) < 300
    assert "secret" not in said
    # The kernel itself does not care for UTF-8; engines do.
    assert "UTF-8" in said or not runs(made)


def test_paths_count_too() -> None:
    assert "workingDir has a NUL" in problem(spec(directory="/a\0"))
    message = replace(spec(), mounts=(Mount(source="/m", target="/a\0b"),))
    assert "the path of a mount, '/a\\x00b', has a NUL" in problem(message)


@pytest.mark.parametrize("name", ["BIG", "ÄÖ"])
def test_the_largest_is_what_the_kernel_takes(name: str) -> None:
    left = MAX_TEXT - len(name.encode()) - 1
    assert problem(spec(**{name: "x" * left})) == ""
    assert runs(spec(**{name: "x" * left}))
    assert problem(spec(**{name: "x" * (left + 1)}))
    assert not runs(spec(**{name: "x" * (left + 1)}))
    assert problem(spec(**{name: "x" * left}), prefix=1)


@given(st.dictionaries(st.text("AB_", min_size=1), st.text(), max_size=5), st.lists(st.text()))
def test_any_other_text_is_let_through(environment: dict[str, str], arguments: list[str]) -> None:
    texts = [*arguments, *environment.values()]
    refused = problem(spec("true", *arguments, **environment))
    assert bool(refused) == any("\0" in text for text in texts)


def test_all_of_it_together_is_what_the_kernel_takes() -> None:
    """Of a stack of any size: the children of the job get the job's."""
    many: dict[str, Any] = {f"V{number}": "x" * 100_000 for number in range(19)}
    before = resource.getrlimit(resource.RLIMIT_STACK)
    try:
        resource.setrlimit(resource.RLIMIT_STACK, (8 * 2**20, before[1]))
        assert room() == 2 * 2**20
        assert problem(spec(**many), room=room()) == ""
        assert runs(spec(**many))
        resource.setrlimit(resource.RLIMIT_STACK, (4 * 2**20, before[1]))
        assert "together" in problem(spec(**many), room=room())
        assert not runs(spec(**many))
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, before)
