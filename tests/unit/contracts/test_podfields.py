"""Each field of a Pod is decided about, and what is decided is said."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.podfields import (
    HARMLESS,
    HONOURED,
    REFUSALS,
    WARNINGS,
    Findings,
    examine,
)

FIELDS = Path(__file__).with_name("pod-fields.txt").read_text().split()
RULED = [field.partition("=")[0] for rule in (*REFUSALS, *WARNINGS) for field in rule.fields]
DECIDED = {*RULED, *HARMLESS, *HONOURED}


def is_below(path: str, known: str) -> bool:
    """Whether a path of the API is one of the table's, or lies below it."""
    if known.endswith(".*"):
        return path.startswith(known[:-1]) or path == known[:-2]
    return path == known or path.startswith((f"{known}.", f"{known}[*]"))


def test_every_field_of_the_api_is_decided_about() -> None:
    undecided = [path for path in FIELDS if not any(is_below(path, known) for known in DECIDED)]
    assert not undecided, "put them into HONOURED, HARMLESS or a rule of contracts/podfields.py"


def test_the_table_has_no_field_that_the_api_has_not() -> None:
    unknown = [known for known in DECIDED if not any(is_below(path, known) for path in FIELDS)]
    assert not unknown


def test_no_field_is_in_two_lists() -> None:
    assert not HARMLESS.keys() & HONOURED.keys()
    assert not set(RULED) & (HARMLESS.keys() | HONOURED.keys())


def spec(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    first = {"name": "web", "image": "web:1"}
    return {"containers": [first | each for each in containers or ({},)], **more}


ORDINARY = spec(
    {
        "args": ["a"],
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePath": "/dev/termination-log",
        "volumeMounts": [{"name": "t", "mountPath": "/t", "mountPropagation": "None"}],
        "lifecycle": {},
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
    },
    affinity={
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}
            ]
        }
    },
    initContainers=[{"name": "proxy", "restartPolicy": "Always"}],
    topologySpreadConstraints=[{"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}],
    dnsPolicy="ClusterFirst",
    enableServiceLinks=True,
    hostPID=False,
    os={"name": "linux"},
    preemptionPolicy="PreemptLowerPriority",
    priority=0,
    restartPolicy="Always",
    schedulerName="default-scheduler",
    securityContext={"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"},
    volumes=[
        {"name": "t", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    ],
)


def test_what_every_manifest_has_is_no_cause_to_speak() -> None:
    assert examine(ORDINARY) == Findings()


def test_ports_of_a_pod_in_its_nodes_network_are_the_nodes() -> None:
    ports = {"ports": [{"containerPort": 80, "hostPort": 80}]}
    assert examine(spec(ports)).warnings
    assert examine(spec(ports, hostNetwork=True)) == Findings()


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (spec(hostPID=True, hostIPC=True), "spec.hostPID, spec.hostIPC: a pod shares"),
        (spec(os={"name": "windows"}), "spec.os.name windows: Slurm's nodes run Linux"),
        (
            spec({"resources": {"claims": [{"name": "gpu"}]}}, resourceClaims=[{"name": "gpu"}]),
            "spec.resourceClaims, spec.containers[web].resources.claims: devices are not claimed",
        ),
        (
            spec(
                {"volumeDevices": [{"name": "d", "devicePath": "/dev/d"}]},
                volumes=[
                    {"name": "d", "persistentVolumeClaim": {"claimName": "d"}},
                    {"name": "h", "hostPath": {}},
                    {"name": "p", "projected": {"sources": [{"secret": {}}, {"later": {}}]}},
                ],
            ),
            (
                "spec.volumes[d].persistentVolumeClaim, spec.volumes[h].hostPath,"
                " spec.volumes[p].projected.sources[1].later, spec.containers[web].volumeDevices:"
                " volumes are emptyDir"
            ),
        ),
        (
            spec(volumes=[{"name": "m", "emptyDir": {"medium": "HugePages-2Mi"}}]),
            "spec.volumes[m].emptyDir.medium HugePages-2Mi: pods have no huge pages",
        ),
        (
            spec(initContainers=[{"name": "i", "securityContext": {"privileged": True}}]),
            "spec.initContainers[i].securityContext.privileged: a pod has no power",
        ),
        (
            spec({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart"}]}),
            (
                "spec.containers[web].restartPolicy Never, spec.containers[web].restartPolicyRules:"
                " a container restarts as its pod does"
            ),
        ),
        (
            spec({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "a"}}}]}),
            "spec.containers[web].env[A].valueFrom.fileKeyRef: variables are not read",
        ),
    ],
)
def test_what_is_refused_is_named_with_its_place(item: dict[str, Any], said: str) -> None:
    found = examine(item)
    (error,) = found.errors
    assert error.startswith(said)
    assert "; " in error, "a remedy"
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (
            spec({"livenessProbe": {"exec": {}}}, {"name": "b", "startupProbe": {"exec": {}}}),
            "spec.containers[web].livenessProbe, spec.containers[b].startupProbe: probes are not",
        ),
        (spec({"lifecycle": {"preStop": {}}}), "spec.containers[web].lifecycle: hooks are not"),
        (
            spec({"ports": [{"containerPort": 80, "hostPort": 8080, "name": "http"}]}),
            "spec.containers[web].ports[http].hostPort 8080: nothing forwards ports",
        ),
        (spec({"stdin": True, "tty": True}), "spec.containers[web].stdin, spec.containers[web]."),
        (spec(priorityClassName="high"), "spec.priorityClassName high: Slurm has its own"),
        (spec(runtimeClassName="gvisor"), "spec.runtimeClassName gvisor: the site's engine"),
        (
            spec(
                affinity={
                    "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}
                },
                topologySpreadConstraints=[{"whenUnsatisfiable": "DoNotSchedule"}],
            ),
            (
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution,"
                " spec.topologySpreadConstraints[0].whenUnsatisfiable DoNotSchedule: Slurm places"
            ),
        ),
        (
            spec(
                {"securityContext": {"seccompProfile": {"localhostProfile": "a.json"}}},
                securityContext={"sysctls": [{"name": "a"}], "supplementalGroupsPolicy": "Strict"},
            ),
            (
                "spec.securityContext.sysctls,"
                " spec.securityContext.supplementalGroupsPolicy Strict,"
                " spec.containers[web].securityContext.seccompProfile.localhostProfile a.json: not"
            ),
        ),
        (spec(shareProcessNamespace=True), "spec.shareProcessNamespace: containers do not see"),
        (spec(ephemeralContainers=[{"name": "e"}]), "spec.ephemeralContainers: no container is"),
    ],
)
def test_what_is_ignored_is_one_warning_with_all_places(item: dict[str, Any], said: str) -> None:
    found = examine(item)
    (warning,) = found.warnings
    assert warning.startswith(said)
    assert "; " in warning, "a remedy"
    assert found.errors == ()


def test_of_many_places_some_are_named() -> None:
    many = [{"name": f"c{number}", "tty": True} for number in range(30)]
    (warning,) = examine(spec(*many)).warnings
    assert "spec.containers[c4].tty and 25 more: " in warning


@pytest.mark.parametrize("rule", [*REFUSALS, *WARNINGS], ids=lambda rule: rule.fields[0])
def test_a_sentence_fits_into_what_kubectl_shows(rule: Any) -> None:
    assert len(f"spec.containers[a-longish-name].livenessProbe: {rule.says}") < 256
    assert "; " in rule.says


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(sorted({part for path in FIELDS for part in path.split(".")}))
            | st.sampled_from(["containers", "initContainers", "volumes", "name", "sources"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["containers", "volumes", "affinity", "os"]), JSON))
def test_any_spec_is_examined(item: dict[str, Any]) -> None:
    found = examine(item)
    assert all(": " in text for text in (*found.errors, *found.warnings))
