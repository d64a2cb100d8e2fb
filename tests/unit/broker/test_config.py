"""The broker's files: only root's, and nothing unknown in them."""

import os
from pathlib import Path

import pytest

from slurmlet.broker.config import ConfigError, load_identity_map, load_settings

OWNER = os.geteuid()


def test_both_tables_are_read(tmp_path: Path) -> None:
    path = tmp_path / "slurmlet.toml"
    path.write_text('[cluster]\nname = "lab"\n[broker]\nconcurrency = 3\n[kubelet]\nx = 1\n')
    settings = load_settings(str(path), identity_file="i", owner=OWNER)
    assert (settings.cluster.name, settings.broker.concurrency) == ("lab", 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cluster.name: missing"),
        ('[cluster]\nname = "a"\n[broker]\nsbatch = "sbatch"', "broker.sbatch: give an absolute"),
        ('[cluster]\nname = "a"\n[broker]\nsbach = "x"', "broker.sbach: unknown key"),
        ('[cluster]\nname = "a"\n[broker]\nsubmit_timeout = 0', "give seconds"),
        ('[cluster]\nname = "a"\n[broker]\nconcurrency = 0', "from 1 to 256"),
        ('[cluster]\nname = "a"\nstate_dir = "{hom}/x"', "cluster.state_dir"),
        ('[cluster]\nname = "a"\nstate_dir = "x"', "cluster.state_dir"),
        ("[cluster", "slurmlet.toml"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "slurmlet.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_settings(str(path), identity_file="i", owner=OWNER)


def test_a_change_of_the_map_is_seen_and_a_broken_map_refuses(tmp_path: Path) -> None:
    path = tmp_path / "identity.toml"
    path.write_text('[namespaces.a]\nuser = "alice"\n')
    assert load_identity_map(str(path), owner=OWNER).lookup("a").user == "alice"
    path.write_text('[namespaces.a]\nuser = "bob"\n')
    assert load_identity_map(str(path), owner=OWNER).lookup("a").user == "bob"
    path.write_text("[namespaces.a]\nuser = 1\n")
    with pytest.raises(ConfigError, match=r"namespaces\.a\.user"):
        load_identity_map(str(path), owner=OWNER)


def test_files_that_others_could_change_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "identity.toml"
    path.write_text("")
    path.chmod(0o664)
    with pytest.raises(ConfigError, match="not be writable by others"):
        load_identity_map(str(path), owner=OWNER)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="must belong to uid"):
        load_identity_map(str(path), owner=OWNER + 1)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(ConfigError, match="symbolic links"):
        load_identity_map(str(link), owner=OWNER)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="not a regular file"):
        load_identity_map(str(tmp_path / "fifo"), owner=OWNER)
