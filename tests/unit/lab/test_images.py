"""Recipes of container images, and the script that publishes them."""

import os
import shlex
from pathlib import Path

import pytest

from slurmlab.errors import LabError
from slurmlab.images import SOURCE, oci_layer, publish_script, recipes


def test_the_names_that_e2e_tests_ask_for_are_made() -> None:
    asked = {f"e2e-test-images/{name}" for name in ("agnhost:2.63.0", "busybox:1.37.0-1")}
    asked |= {"pause:3.10.2"}
    wanted = recipes((SOURCE / "images.toml").read_text())
    names = [name for recipe in wanted for name in recipe.names]
    assert asked <= set(names)
    assert all(":" in name for name in names), "every name has a tag"
    assert len(set(names)) == len(names)
    assert all((SOURCE / recipe.script).is_file() for recipe in wanted)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[a]\nscript = "a.sh"\nover = "b"\nkeeps = "out"\nnames = []', r"\[a\]: over = 'b'"),
        (
            '[a]\nscript = "a.sh"\nover = "debian"\nkeeps = "out"\nnames = []\nfoo = 1',
            r"\[a\].*foo",
        ),
        ('[a]\nscript = "a.sh"', r"\[a\].*over"),
    ],
)
def test_a_bad_recipe_is_named(text: str, said: str) -> None:
    with pytest.raises(LabError, match=said):
        recipes(text)


def test_configuration_reaches_umoci_as_single_words() -> None:
    recipe = recipes(
        '[a]\nscript = "a.sh"\nover = "debian"\nkeeps = "out"\nnames = ["a:1"]\n'
        'cmd = ["sh", "-c", "echo $HOME \'x\'; id"]\nenv = [\'A=b c\']'
    )
    script = publish_script(recipe)
    line = next(line for line in script.splitlines() if line.startswith("umoci config"))
    words = shlex.split(line)
    assert "echo $HOME 'x'; id" in words
    assert words[words.index("A=b c") - 1] == "--config.env"
    assert "docker://127.0.0.1:5000/a:1" in script


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes overlayfs's marks of deletion")
def test_deletions_become_those_of_oci(tmp_path: Path) -> None:
    changes = tmp_path / "changes"
    (changes / "etc").mkdir(parents=True)
    (changes / "var" / "log").mkdir(parents=True)
    (changes / "etc" / "kept").write_text("x")
    os.mknod(changes / "etc" / "gone", 0o020000, os.makedev(0, 0))
    layer = oci_layer(changes, copy=tmp_path / "layer")
    assert sorted(path.name for path in (layer / "etc").iterdir()) == [".wh.gone", "kept"]
    assert not (layer / "var" / "log").exists()
    assert (changes / "etc" / "gone").exists(), "the cached changes stay as they are"
