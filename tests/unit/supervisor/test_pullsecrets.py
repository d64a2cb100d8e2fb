"""imagePullSecrets, good ones and others."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.supervisor.pullsecrets import credentials, give_credentials

from .plans import make_plan

ALICE = base64.b64encode(b"alice:wonderland").decode()


def encoded(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.b64encode(text.encode()).decode()


def docker(auths: object) -> dict[str, str]:
    return {".dockerconfigjson": encoded({"auths": auths, "credsStore": "evil"})}


def plan(**secrets: dict[str, str]) -> Any:
    names = [{"name": name} for name in (*secrets, "gone")]
    return make_plan([], pull_secrets=secrets, imagePullSecrets=names)


def test_the_first_secret_for_a_registry_counts() -> None:
    found = credentials(
        plan(
            a=docker({"r.lab": {"auth": ALICE}}),
            b=docker({"r.lab": {"username": "b", "password": "p"}, "s.lab": {"auth": ALICE}}),
            c={".dockercfg": encoded({"t.lab": {"username": "alice", "password": "wonderland"}})},
        )
    )
    assert found.auths == {"r.lab": ALICE, "s.lab": ALICE, "t.lab": ALICE}
    assert found.problems == ('image pull secret "gone" not found',)
    assert b"evil" not in found.config()
    assert ALICE not in repr(found)


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ({}, "has no key .dockerconfigjson; make one by kubectl create secret docker-registry"),
        ({".dockerconfigjson": "%%"}, "is no Docker configuration: see its key .dockerconfigjson"),
        ({".dockerconfigjson": encoded("{hunter2")}, "is no Docker configuration"),
        ({".dockerconfigjson": encoded({"auths": ["hunter2"]})}, "is no Docker configuration"),
        ({".dockercfg": encoded([])}, "is no Docker configuration: see its key .dockercfg"),
        (docker({"r.lab": {"auth": "hunter2"}}), "has no user and password for 'r.lab'"),
        (docker({"r.lab": {"username": "hunter2"}}), "has no user and password for 'r.lab'"),
        (docker({"r.lab": "hunter2"}), "has no user and password for 'r.lab'"),
    ],
)
def test_what_is_wrong_is_said_without_what_is_secret(secret: dict[str, str], words: str) -> None:
    problem = credentials(plan(x=secret)).problems[0]
    assert problem.startswith('image pull secret "x" ')
    assert words in problem
    assert "hunter2" not in problem


@given(st.recursive(st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_no_configuration_crashes_it(table: object) -> None:
    for secret in (docker(table), {".dockercfg": encoded(json.dumps(table))}):
        assert all(credentials(plan(x=secret)).auths.values())


def test_the_file_is_the_pod_s_alone(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    assert give_credentials(plan(a=docker({"r.lab": {"auth": ALICE}})), file)
    assert json.loads(file.read_text()) == {"auths": {"r.lab": {"auth": ALICE}}}
    assert file.stat().st_mode & 0o777 == 0o600
    give_credentials(make_plan([]), file)
    assert not file.exists()
