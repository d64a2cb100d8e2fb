"""What the broker signs for the prolog of a pod's job."""

import json
import os
from pathlib import Path

import pytest

from slurmlet.broker import credential
from slurmlet.broker.credential import CredentialError


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def sign(munge: str) -> str:
    return credential.credential(munge, uid=2001, pod_uid="u", mode="host")


def test_it_names_user_pod_and_mode_and_is_for_root(tmp_path: Path) -> None:
    munge = program(tmp_path / "munge", 'echo "$@"; env >&2; cat')
    arguments, payload = sign(munge).splitlines()
    assert arguments == "--restrict-uid=0"
    assert json.loads(payload) == {"version": 1, "uid": 2001, "podUID": "u", "mode": "host"}


def test_a_failure_is_told(tmp_path: Path) -> None:
    munge = program(tmp_path / "munge", "echo 'munged is down' >&2; exit 7")
    with pytest.raises(CredentialError, match="munge does not sign: munged is down"):
        sign(munge)
    with pytest.raises(CredentialError, match="munge does not sign: "):
        sign(str(tmp_path / "nowhere"))


def test_without_root_or_program_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sign("") == ""
    monkeypatch.setattr(os, "geteuid", lambda: 990)
    assert sign("/usr/bin/munge") == ""
