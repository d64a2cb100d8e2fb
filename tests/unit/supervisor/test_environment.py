"""A container's environment, as kubelet would resolve it."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.supervisor.environment import ResolveError, expand, refreshed, resolve_environment

from .plans import make_plan

SECRETS = {"s": {"user": base64.b64encode(b"bob").decode(), "bad name=": ""}}
CONFIG_MAPS = {"c": {"color": "red", "multi": "a\nb"}}


def resolve(**container: Any) -> dict[str, str]:
    container = {"name": "main", **container}
    plan = make_plan([container], secrets=SECRETS, config_maps=CONFIG_MAPS)
    return resolve_environment(container, plan)


def test_what_an_environment_refers_to_can_change_and_nothing_else() -> None:
    main = {
        "name": "main",
        "env": [
            {
                "name": "NOTE",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['note']"}},
            },
            {
                "name": "COLOR",
                "valueFrom": {"configMapKeyRef": {"name": "c", "key": "color"}},
            },
        ],
    }
    before = make_plan([main])
    after = make_plan([{**main, "image": "other"}], config_maps=CONFIG_MAPS)
    after.pod["metadata"]["annotations"] = {"note": "new"}
    after.pod["metadata"]["name"] = "other"
    plan = refreshed(before, newer=after)
    assert resolve_environment(main, plan) | {"NOTE": "new", "COLOR": "red"} == (
        resolve_environment(main, plan)
    )
    assert plan.pod["spec"] == before.pod["spec"]
    assert plan.pod["metadata"]["name"] == "web"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ({"fieldRef": {"fieldPath": "metadata.name"}}, "web"),
        ({"fieldRef": {"fieldPath": "metadata.namespace"}}, "alice"),
        ({"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/name']"}}, "shop"),
        ({"fieldRef": {"fieldPath": "metadata.annotations['note']"}}, "hi"),
        ({"fieldRef": {"fieldPath": "metadata.annotations['none']"}}, ""),
        ({"fieldRef": {"fieldPath": "status.podIP"}}, "10.77.0.11"),
        ({"fieldRef": {"fieldPath": "status.hostIP"}}, "10.77.0.12"),
        ({"fieldRef": {"fieldPath": "spec.nodeName"}}, "slurm"),
        ({"fieldRef": {"fieldPath": "spec.serviceAccountName"}}, "default"),
        ({"configMapKeyRef": {"name": "c", "key": "multi"}}, "a\nb"),
        ({"secretKeyRef": {"name": "s", "key": "user"}}, "bob"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "2"),
        ({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}, "1500"),
        ({"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}, "64"),
        ({"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}, "1500"),
        # What has no limit of its own may use what the job has.
        ({"resourceFieldRef": {"resource": "limits.memory"}}, str(64 * 2**20)),
    ],
)
def test_sources(source: dict[str, Any], value: str) -> None:
    resources = {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}
    env = [{"name": "X", "valueFrom": source}]
    assert resolve(env=env, resources=resources)["X"] == value


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"secretKeyRef": {"name": "none", "key": "k"}}, 'secret "none" not found'),
        ({"secretKeyRef": {"name": "s", "key": "k"}}, "couldn't find key k in secret alice/s"),
        ({"fieldRef": {"fieldPath": "spec.x"}}, "unsupported fieldPath: spec.x"),
        ({"resourceFieldRef": {"resource": "cpu"}}, "unsupported resource: cpu"),
        ({"fileKeyRef": {}}, "fileKeyRef is not supported"),
    ],
)
def test_what_is_missing_is_named(source: dict[str, Any], words: str) -> None:
    with pytest.raises(ResolveError, match=words):
        resolve(env=[{"name": "X", "valueFrom": source}])


def test_optional_references_may_be_missing() -> None:
    references = [
        {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}},
        {"secretKeyRef": {"name": "s", "key": "k", "optional": True}},
    ]
    env = [{"name": f"X{i}", "valueFrom": source} for i, source in enumerate(references)]
    env_from = [{"secretRef": {"name": "none", "optional": True}}]
    assert resolve(env=env, envFrom=env_from) == {"KUBERNETES_SERVICE_HOST": "10.77.0.1"}


def test_later_sources_win_and_prefixes_apply() -> None:
    result = resolve(
        envFrom=[
            {"configMapRef": {"name": "c"}},
            {"configMapRef": {"name": "c"}, "prefix": "P_"},
            {"secretRef": {"name": "s"}},
        ],
        env=[{"name": "color", "value": "blue"}, {"name": "again", "value": "$(color)-$(P_color)"}],
    )
    assert result["color"] == "blue"
    assert result["again"] == "blue-red"
    assert result["user"] == "bob"
    assert "bad name=" not in result


def test_a_missing_map_of_env_from_is_named() -> None:
    with pytest.raises(ResolveError, match='configmap "none" not found'):
        resolve(envFrom=[{"configMapRef": {"name": "none"}}])


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(NONE) $A ${A} $(", "$(NONE) $A ${A} $("),
        ("$(A)$(B)", "1$(A)"),
        ("$(echo hi) `id`", "$(echo hi) `id`"),
    ],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "B": "$(A)"}) == result


@given(st.text().filter(lambda text: "$" not in text))
def test_text_without_references_stays(text: str) -> None:
    assert expand(text, {"A": "1"}) == text
