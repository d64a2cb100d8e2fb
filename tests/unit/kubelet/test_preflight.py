"""Pods that cannot be honoured are refused at once and whole; what may still come is waited for."""

from typing import Any

import pytest
from tests.unit.kubelet.fakes import pod

from slurmlet.broker.policy import authorised_options
from slurmlet.contracts.admission import Verdict
from slurmlet.contracts.identity import parse_identity_map
from slurmlet.contracts.request import RequestPolicy
from slurmlet.kubelet.preflight import decide, wait_for
from slurmlet.kubelet.references import Found, containers, missing, of_container, of_volumes

IDENTITIES = parse_identity_map(
    {"namespaces": {"alice": {"user": "alice", "partitions": ["cpu", "debug"]}}}
)
NOTHING: Found = {("ConfigMap", "settings"): None, ("Secret", "word"): None}


def decision(item: dict[str, object]) -> Verdict:
    return decide(
        item, identities=IDENTITIES, policy=RequestPolicy(), engines=("crun", "apptainer")
    )


def test_a_pod_that_says_nothing_runs_as_its_namespace_may() -> None:
    """The broker adds what the map lists first, where the site's default is not on the list."""
    site = RequestPolicy(options={"partition": "gpu"})
    found = decide(pod(), identities=IDENTITIES, policy=site, engines=("crun",))
    assert found.errors == ()
    identity = IDENTITIES.lookup("alice")
    submitted = authorised_options(found.options, identity=identity, namespace="alice")
    assert submitted["partition"] == "cpu"


def test_a_plain_pod_is_honoured() -> None:
    found = decision(pod())
    assert found.errors == ()
    assert (found.user, found.engine) == ("alice", "crun")
    assert found.options["cpus-per-task"] == "1"


@pytest.mark.parametrize(
    ("inits", "container", "said"),
    [
        ([], {"restartPolicy": "Never"}, "spec.containers[main].restartPolicy Never"),
        ([], {"restartPolicyRules": [{"action": "Restart"}]}, "restartPolicyRules"),
        (
            [{"name": "first", "restartPolicy": "Never"}],
            {},
            "spec.initContainers[first].restartPolicy",
        ),
        ([{"name": "sidecar", "restartPolicy": "Always"}], {}, ""),
        ([], {"restartPolicy": "OnFailure"}, ""),
    ],
)
def test_a_container_cannot_restart_otherwise_than_its_pod(
    inits: list[dict[str, Any]], container: dict[str, Any], said: str
) -> None:
    wish = pod(
        restartPolicy="OnFailure", initContainers=inits, containers=[{"name": "main", **container}]
    )
    errors = decision(wish).errors
    assert (said in "".join(errors)) if said else not errors


def test_everything_unsupported_is_listed() -> None:
    bad = pod(
        hostPID=True,
        volumes=[
            {"name": "data", "persistentVolumeClaim": {"claimName": "x"}},
            {"name": "host", "hostPath": {"path": "/etc"}},
            {"name": "fine", "emptyDir": {}},
            {"name": "mixed", "projected": {"sources": [{"clusterTrustBundle": {}}]}},
        ],
        containers=[{"name": "main", "securityContext": {"privileged": True}}],
        metadata={
            "annotations": {
                "slurmlet.io/engine": "docker",
                "slurmlet.io/init": "no",
                "slurmlet.io/partition": "a b",
            }
        },
    )
    text = "\n".join(decision(bad).errors)
    for place in (
        "spec.hostPID",
        "spec.volumes[data].persistentVolumeClaim",
        "spec.volumes[host].hostPath",
        "spec.volumes[mixed].projected.sources[0].clusterTrustBundle",
        "spec.containers[main].securityContext.privileged",
        "slurmlet.io/engine",
        "annotation slurmlet.io/init: 'no' is no choice; use true or false",
        "slurmlet.io/partition",
    ):
        assert place in text
    assert "fine" not in text


def test_what_the_webhook_warns_of_the_agent_knows_too() -> None:
    probe = {"exec": {"command": ["true"]}}
    item = pod(containers=[{"name": "main", "livenessProbe": probe}])
    (warning,) = decision(item).warnings
    assert warning.startswith("spec.containers[main].livenessProbe: probes are not run")


def test_whether_a_pod_is_too_large_is_slurms_to_say() -> None:
    item = pod(metadata={"annotations": {"slurmlet.io/cpus-per-task": "99999"}})
    assert decision(item).errors == ()


def test_the_identity_map_decides() -> None:
    asked = pod(metadata={"annotations": {"slurmlet.io/partition": "gpu"}})
    assert "partition 'gpu' is not permitted" in decision(asked).errors[0]
    stranger = pod(metadata={"namespace": "eve"})
    assert "'eve' is not mapped" in decision(stranger).errors[0]


def test_what_the_first_container_needs_is_waited_for() -> None:
    item = pod(
        volumes=[{"name": "config", "configMap": {"name": "settings"}}],
        containers=[{"name": "main", "envFrom": [{"secretRef": {"name": "word"}}]}],
    )
    waiting = wait_for(item, NOTHING)
    assert waiting is not None
    assert waiting[0] == "ContainerCreating"
    assert 'volume "config": configmap "settings" not found' in waiting[1]
    there: Found = {**NOTHING, ("ConfigMap", "settings"): {"data": {}}}
    assert wait_for(item, there) == ("CreateContainerConfigError", 'secret "word" not found')
    assert wait_for(item, {**there, ("Secret", "word"): {"data": {}}}) is None


def test_later_containers_and_optional_references_do_not_hold_a_pod_up() -> None:
    item = pod(
        initContainers=[{"name": "first"}],
        containers=[{"name": "main", "envFrom": [{"secretRef": {"name": "word"}}]}],
        volumes=[{"name": "config", "configMap": {"name": "settings", "optional": True}}],
    )
    assert wait_for(item, NOTHING) is None
    assert missing(of_container(containers(item)[1]), NOTHING) != []


def test_a_missing_key_is_named() -> None:
    reference = {"configMapKeyRef": {"name": "settings", "key": "colour"}}
    item = pod(containers=[{"name": "main", "env": [{"name": "C", "valueFrom": reference}]}])
    found: Found = {("ConfigMap", "settings"): {"data": {"size": "1"}}}
    assert wait_for(item, found) == (
        "CreateContainerConfigError",
        'couldn\'t find key colour in configmap "settings"',
    )


def test_items_of_a_volume_are_required_keys() -> None:
    items = [{"key": "colour", "path": "c"}]
    item = pod(volumes=[{"name": "v", "configMap": {"name": "settings", "items": items}}])
    found: Found = {("ConfigMap", "settings"): {"binaryData": {"colour": "Zw=="}}}
    assert missing(of_volumes(item), found) == []
    assert missing(of_volumes(item), {("ConfigMap", "settings"): {}}) != []
