from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from slurmlet.contracts.identity import Identity, IdentityMap
from slurmlet.contracts.policy import NOTHING_KNOWN, NodeSize, Snapshot
from slurmlet.contracts.wording import MOST, in_one
from slurmlet.webhook import pods
from slurmlet.webhook.app import create_app
from slurmlet.webhook.decision import UNCHANGED, Decision
from slurmlet.webhook.metrics import metrics_in
from slurmlet.webhook.templates import (
    BUILT_IN,
    MOST_TEMPLATES,
    TemplatesError,
    validate,
    with_custom,
)

GOOD, BAD, WORSE = ({"slurmlet.io/time": value} for value in ("5", "soon", "later"))
SAID = "annotation slurmlet.io/time: value 'soon' is not valid for --time; see sbatch(1)"
PATHS = {resource: ".".join(path) for resource, (path,) in BUILT_IN.items()}
DENYING = sorted(BUILT_IN.keys() - {"apps/v1/daemonsets"})
KINDS = {
    "deployments": "Deployment",
    "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet",
    "replicasets": "ReplicaSet",
    "jobs": "Job",
    "cronjobs": "CronJob",
}
TOLERATES = [{"key": "slurmlet.io/slurm", "operator": "Exists"}]


def template(annotations: Any = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"annotations": annotations or {}}, "spec": {"containers": [], **spec}}


def item(resource: str, made: Any, *, metadata: Any = None, **spec: Any) -> dict[str, Any]:
    body = {"template": made, **spec}
    if resource == "batch/v1/cronjobs":
        body = {"jobTemplate": {"spec": body}}
    return {"metadata": metadata or {"name": "web"}, "spec": body}


def decide(
    new: Any,
    old: Any = None,
    *,
    resource: str = "apps/v1/deployments",
    policy: Snapshot = NOTHING_KNOWN,
    **more: Any,
) -> Decision:
    group, version, name = resource.split("/")
    request = {
        "operation": "CREATE" if old is None else "UPDATE",
        "namespace": "alice",
        "resource": {"group": group, "version": version, "resource": name},
        "kind": {"kind": KINDS.get(name, name)},
        "object": new,
        "oldObject": old,
    }
    return validate(request, policy, **more)


@pytest.mark.parametrize("resource", DENYING)
def test_a_bad_template_is_refused_by_its_path(resource: str) -> None:
    assert decide(item(resource, template(BAD)), resource=resource) == Decision(
        denial=f"{PATHS[resource]}: {SAID}"
    )
    assert decide(item(resource, template(GOOD)), resource=resource) == UNCHANGED


@pytest.mark.parametrize("resource", DENYING)
def test_an_update_is_judged_only_where_the_template_changed(resource: str) -> None:
    good, bad = (item(resource, template(each)) for each in (GOOD, BAD))
    assert decide(bad, good, resource=resource).denial == f"{PATHS[resource]}: {SAID}"
    assert decide(good, bad, resource=resource) == UNCHANGED
    scaled = item(resource, template(BAD), replicas=3, metadata={"annotations": {"note": "x"}})
    assert decide(scaled, bad, resource=resource) == UNCHANGED


def test_what_was_wrong_before_is_only_warned_of() -> None:
    old, back = (item("apps/v1/deployments", template(each)) for each in (BAD, WORSE))
    decision = decide(back, old)
    assert decision.denial is None
    assert "value 'later' is not valid" in decision.warnings[0]
    more = item("apps/v1/deployments", template({**WORSE, "slurmlet.io/mem": "much"}))
    decision = decide(more, old)
    assert decision.denial is not None
    assert decision.denial.startswith("spec.template: annotation slurmlet.io/mem: value 'much'")
    assert "'later'" in decision.warnings[0]


def privileged(*names: str) -> dict[str, Any]:
    containers = [{"name": name, "securityContext": {"privileged": True}} for name in names]
    return item("apps/v1/deployments", template(containers=containers))


@pytest.mark.parametrize("before", ["ab", "abcdefgh"])
def test_who_mends_a_part_is_not_refused_for_the_rest(before: str) -> None:
    left = decide(privileged("a"), privileged(*before))
    assert left.denial is None
    assert left.warnings[0].startswith(
        "spec.template: spec.containers[a].securityContext.privileged: a pod has no power"
    )
    last = decide(privileged(*before[1:]), privileged(*before))
    assert last.denial is None
    assert decide(privileged("a", "b"), privileged("a")).denial


SHRUNK = Snapshot(
    identities=IdentityMap(namespaces={"alice": Identity(user="alice", accounts=("new",))}),
    sizes={"cpu": (NodeSize(cpus=64, memory=64_000),)},
)


def asking(cpus: int, annotations: Any = None) -> dict[str, Any]:
    container = {"name": "main", "resources": {"requests": {"cpu": str(cpus)}}}
    return item("apps/v1/deployments", template(annotations, containers=[container]))


@pytest.mark.claim("W78")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (asking(1, {"slurmlet.io/account": "one"}), asking(1, {"slurmlet.io/account": "other"})),
        (asking(200), asking(100)),
        (asking(100), asking(200)),
        (asking(100, BAD), asking(100, GOOD)),
        (asking(100, BAD), asking(100)),
    ],
)
def test_what_shrank_under_an_object_refuses_no_other_value_of_the_same_field(
    old: Any, new: Any
) -> None:
    """Rolled back it has an older value, and mended step by step one that is still wrong."""
    decision = decide(new, old, policy=SHRUNK)
    assert decision.denial is None
    (warning,) = decision.warnings
    assert "not permitted" in warning or "the largest node has 64 CPUs" in warning


@pytest.mark.claim("W78")
def test_but_a_field_that_was_right_is_not_made_wrong() -> None:
    good, bad = (asking(1, {"slurmlet.io/account": name}) for name in ("new", "old"))
    assert decide(bad, good, policy=SHRUNK).denial
    assert decide(asking(100), asking(64), policy=SHRUNK).denial
    large = asking(100, {"slurmlet.io/account": "old"})
    denial = str(decide(large, bad, policy=SHRUNK).denial)
    assert denial.startswith("spec.template: spec.containers[*].resources: the pod asks for 100")
    # Not even where another mistake was there before.
    assert decide(asking(100, BAD), asking(1, BAD), policy=SHRUNK).denial


@pytest.mark.parametrize(
    "metadata",
    [
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"ownerReferences": [{"kind": "A"}, {"kind": "B", "controller": True}]},
    ],
)
def test_what_is_deleted_or_a_controllers_is_let_be(metadata: dict[str, Any]) -> None:
    bad = item("apps/v1/replicasets", template(BAD), metadata=metadata)
    assert decide(bad, resource="apps/v1/replicasets") == UNCHANGED


def test_an_owner_that_does_not_control_changes_nothing() -> None:
    owners = {"ownerReferences": [{"kind": "A", "controller": False}, {"kind": "B"}]}
    assert decide(item("apps/v1/deployments", template(BAD), metadata=owners)).denial


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("", True),
        ("default-scheduler", True),
        ("slurmlet-scheduler", True),
        ("volcano", False),
    ],
)
def test_a_template_of_another_scheduler_is_left_alone(name: str, ours: bool) -> None:
    made = template(BAD, schedulerName=name)
    job = item("batch/v1/jobs", made, activeDeadlineSeconds=9)
    assert (decide(job, resource="batch/v1/jobs") != UNCHANGED) is ours


@pytest.mark.parametrize(
    ("spec", "ours"),
    [
        ({"nodeName": "worker1"}, False),
        ({"nodeName": "worker1", "schedulerName": "slurmlet-scheduler"}, False),
        ({"nodeName": "slurm", "schedulerName": "volcano"}, True),
        ({"nodeName": ""}, True),
    ],
)
def test_a_template_is_ours_as_its_pods_will_be(spec: dict[str, str], ours: bool) -> None:
    made = template(BAD, **spec)
    assert bool(decide(item("apps/v1/deployments", made)).denial) is ours
    assert pods.is_ours(made, NOTHING_KNOWN.nodes) is ours


def test_a_templates_pods_are_for_the_partition_of_their_node() -> None:
    policy = Snapshot(nodes={"slurm-cpu": "cpu"})
    made = template({"slurmlet.io/partition": "gpu"}, nodeName="slurm-cpu")
    denial = decide(item("apps/v1/deployments", made), policy=policy).denial
    assert "the pod's node is partition cpu" in str(denial)


def test_a_daemon_set_is_warned_of_only_where_it_tolerates_our_taint() -> None:
    daemons = item("apps/v1/daemonsets", template(BAD, tolerations=TOLERATES))
    assert decide(daemons, resource="apps/v1/daemonsets") == Decision(
        warnings=(f"spec.template: {SAID}",)
    )
    for tolerations in (None, [{"key": "gpu", "operator": "Exists"}]):
        elsewhere = item("apps/v1/daemonsets", template(BAD, tolerations=tolerations))
        assert decide(elsewhere, resource="apps/v1/daemonsets") == UNCHANGED


def test_what_pods_will_be_warned_of_is_said_here() -> None:
    made = template({"slurm.hpk.io/flags": "--time=5"})
    assert decide(item("apps/v1/deployments", made)).warnings == (
        "spec.template: annotation slurm.hpk.io/flags is deprecated; use slurmlet.io/flags",
    )


@pytest.mark.parametrize(
    ("resource", "at"),
    [("batch/v1/jobs", "spec"), ("batch/v1/cronjobs", "spec.jobTemplate.spec")],
)
def test_a_jobs_deadline_is_warned_of_when_it_is_set(resource: str, at: str) -> None:
    job = item(resource, template(), activeDeadlineSeconds=600)
    (warning,) = decide(job, resource=resource).warnings
    assert warning.startswith(f"{at}.activeDeadlineSeconds: 600 seconds")
    assert f"use {at}.template.spec.activeDeadlineSeconds" in warning
    assert decide(job, job, resource=resource) == UNCHANGED
    assert decide(job, item(resource, template()), resource=resource).warnings == (warning,)


@pytest.mark.parametrize(
    ("seconds", "warned"), [(None, False), (600, False), (599, True), (3600, False), ("60", False)]
)
def test_a_rollouts_time_is_warned_of_if_it_is_short(seconds: Any, warned: bool) -> None:
    deployment = item("apps/v1/deployments", template(), progressDeadlineSeconds=seconds)
    assert bool(decide(deployment).warnings) is warned
    assert decide(deployment, deployment) == UNCHANGED


def test_annotations_beside_the_template_are_said_once() -> None:
    annotations = {"slurmlet.io/time": "5", "slurm.hpk.io/flags": "-t1", "note": "x"}
    old = item("apps/v1/deployments", template(), metadata={"annotations": annotations})
    assert decide(old).warnings == tuple(
        f"metadata.annotations[{key}]: {value!r} has no effect on a Deployment; move it to"
        " spec.template.metadata.annotations"
        for key, value in [("slurmlet.io/time", "5"), ("slurm.hpk.io/flags", "-t1")]
    )
    changed = {"annotations": {**annotations, "slurmlet.io/time": "6"}}
    (warning,) = decide(item("apps/v1/deployments", template(), metadata=changed), old).warnings
    assert "slurmlet.io/time" in warning


CUSTOM = with_custom(
    {
        "batch.example.org/v1/trainings": [
            "spec.groups[*].template",
            "spec.roles.*.template",
            "spec.driver",
        ]
    }
)


def test_custom_resources_are_judged_at_each_of_their_paths() -> None:
    training = {
        "spec": {
            "groups": [{"template": template(GOOD)}, {"template": template(BAD)}, 7],
            "roles": {"head": {"template": template(BAD)}, "tail": None},
            "driver": template(BAD),
        }
    }
    resource = "batch.example.org/v1/trainings"
    denial = decide(training, resource=resource, templates=CUSTOM).denial
    assert denial == in_one(
        [
            f"{at}: {SAID}"
            for at in ("spec.groups[1].template", "spec.roles.head.template", "spec.driver")
        ]
    )
    assert decide(training, resource=resource) == UNCHANGED
    assert decide(training, training, resource=resource, templates=CUSTOM) == UNCHANGED


def test_an_item_of_a_list_is_the_same_behind_one_that_is_removed() -> None:
    groups = [{"template": template(GOOD)}, {"template": template(BAD)}]
    resource = "batch.example.org/v1/trainings"
    old, new = ({"spec": {"groups": each}} for each in (groups, groups[1:]))
    assert decide(new, old, resource=resource, templates=CUSTOM) == UNCHANGED


def test_of_very_many_templates_the_first_are_judged() -> None:
    groups: list[Any] = [{"template": {}}] * (MOST_TEMPLATES - 1) + [{"template": template(BAD)}]
    resource = "batch.example.org/v1/trainings"
    assert decide({"spec": {"groups": groups}}, resource=resource, templates=CUSTOM).denial
    groups = [{"template": {}}, *groups] * 1000
    assert (
        decide({"spec": {"groups": groups[:-1]}}, resource=resource, templates=CUSTOM) == UNCHANGED
    )


def test_an_answer_is_bounded() -> None:
    groups = [{"template": template(BAD)}] * 1000
    resource = "batch.example.org/v1/trainings"
    decision = decide({"spec": {"groups": groups}}, resource=resource, templates=CUSTOM)
    assert decision.denial is not None
    assert decision.denial.count("see sbatch(1)") == MOST
    assert decision.denial.endswith(f"; and {MOST_TEMPLATES - MOST} more")


@pytest.mark.parametrize(
    ("key", "path", "said"),
    [
        ("Training", "spec.template", "'Training' is no resource; write GROUP/VERSION/RESOURCE"),
        ("example.org/v1/Training", "spec.template", "is no resource"),
        ("example.org/v1/trainings", "spec[0].template", "'spec[0].template' is no path; write"),
        ("example.org/v1/trainings", "", "'' is no path"),
        ("example.org/v1/trainings", "$.spec", "is no path"),
    ],
)
def test_a_table_that_cannot_be_read_says_so(key: str, path: str, said: str) -> None:
    with pytest.raises(TemplatesError) as error:
        with_custom({key: [path]})
    assert said in str(error.value)


def test_the_server_answers_reviews_of_templates() -> None:
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "operation": "CREATE",
            "namespace": "alice",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "object": item("apps/v1/deployments", template(BAD)),
        },
    }
    client = create_app(Snapshot, metrics_in(CollectorRegistry())).test_client()
    answer = client.post("/validate", json=review).get_json()["response"]
    assert answer["allowed"] is False
    assert answer["status"]["message"] == f"spec.template: {SAID}"
    review["request"] |= {"subResource": "scale"}  # type: ignore[operator]
    assert client.post("/validate", json=review).get_json()["response"]["allowed"] is True


NAMES = st.sampled_from(
    [
        *["metadata", "spec", "template", "annotations", "ownerReferences", "controller"],
        *["containers", "tolerations", "groups", "jobTemplate", "activeDeadlineSeconds", "limits"],
        *["resources", "slurmlet.io/time", "slurmlet.io/flags", "initContainers", "schedulerName"],
        "nodeName",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=16,
)
TEMPLATES = st.fixed_dictionaries({"metadata": JSON, "spec": JSON}) | JSON
OBJECTS = JSON | st.builds(
    lambda made, metadata: {
        "metadata": metadata,
        "spec": {"template": made, "groups": [{"template": made}], "driver": made},
    },
    TEMPLATES,
    JSON,
)


@given(
    new=OBJECTS,
    old=OBJECTS,
    resource=st.sampled_from([*BUILT_IN, *CUSTOM, "v1/x/y"]),
)
def test_any_object_is_answered(new: Any, old: Any, resource: str) -> None:
    assert decide(new, resource=resource, templates=CUSTOM).patch == ()
    decision = decide(new, old, resource=resource, templates=CUSTOM)
    assert decision.denial is None or decision.denial.strip()
    unchanged = decide(new, new, resource=resource, templates=CUSTOM)
    assert unchanged.denial is None


@given(request=st.dictionaries(st.sampled_from(["object", "oldObject", "resource", "kind"]), JSON))
def test_any_request_is_answered(request: dict[str, Any]) -> None:
    assert validate(request, NOTHING_KNOWN).patch == ()
