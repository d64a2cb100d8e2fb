"""A user's kubeconfig: written when it is ours, left alone when it is the user's own."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from slurmlet.controlplane.kubeconfig import render


@pytest.fixture(scope="session")
def kubeconfigs(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("roles/users/files/give_kubeconfigs.py")


@pytest.fixture
def ours() -> str:
    server = "https://10.0.0.1:6443"
    return render(server=server, user="alice", ca=b"ca", certificate=b"crt", key=b"key")


def test_a_users_first_namespace_is_the_default_one(kubeconfigs: ModuleType) -> None:
    namespaces = {
        "b": {"user": "alice"},
        "a": {"user": "alice"},
        "ml-*": {"user": "mlsvc"},
        "ml-9": {"user": "mlsvc"},
        "x?": {"user": "bob"},
    }
    assert kubeconfigs.default_namespaces(namespaces) == {
        "alice": "a",
        "mlsvc": "ml-9",
        "bob": None,
    }


def test_what_is_given_is_private_and_says_the_namespace(
    kubeconfigs: ModuleType, tmp_path: Path, ours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / ".kube"
    text = kubeconfigs.with_namespace(ours, "a").encode()
    kubeconfigs.give(directory, text, write=True)
    path = directory / "config"
    assert capsys.readouterr().out == f"{path}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    (context,) = json.loads(path.read_bytes())["contexts"]
    assert context["context"]["namespace"] == "a"

    kubeconfigs.give(directory, text, write=True)
    assert capsys.readouterr().out == ""


def test_an_older_one_of_ours_is_replaced(
    kubeconfigs: ModuleType, tmp_path: Path, ours: str
) -> None:
    (tmp_path / "config").write_text(ours)
    new = ours.replace("10.0.0.1", "10.0.0.2").encode()
    kubeconfigs.give(tmp_path, new, write=True)
    assert (tmp_path / "config").read_bytes() == new


@pytest.mark.parametrize("theirs", ["apiVersion: v1\nkind: Config\n", "", "{}", "[1]", "\xff"])
def test_the_users_own_file_is_left_alone(
    kubeconfigs: ModuleType, tmp_path: Path, ours: str, theirs: str
) -> None:
    (tmp_path / "config").write_text(theirs)
    kubeconfigs.give(tmp_path, ours.encode(), write=True)
    assert (tmp_path / "config").read_text() == theirs
    assert (tmp_path / "slurmlet.conf").read_text() == ours


def test_a_check_writes_nothing(
    kubeconfigs: ModuleType, tmp_path: Path, ours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfigs.give(tmp_path / ".kube", ours.encode(), write=False)
    assert capsys.readouterr().out != ""
    assert not (tmp_path / ".kube").exists()
