"""Values are planted where secrets are, and looked for where none may be."""

import base64
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.e2e import pods, sightings
from tests.e2e.conftest import Lab

from slurmlet.contracts.podproto import token

ENGINES = ("crun", "apptainer")
NODES = ("c1", "c2")
STORE = "/var/lib/slurmlet/controlplane/etcd"
KEY = "/var/lib/slurmlet/kubelet/agent.key"
ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
UNUSED = ("ContainerCreating", "PodInitializing", "SlurmPending", "NodeBooting", None)
SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.5; done"


def plant(kind: str) -> str:
    return f"plant{secrets.token_hex(12)}{kind}"


@dataclass(slots=True)
class Planted:
    """What was planted and what was heard: `texts` are answers of Slurm and of the API by name,
    `hits` is (node, place, name) of what was found on nodes, `readable` the same as seen by bob
    while the pods ran, `looked` counts files and lines."""

    values: dict[str, bytes] = field(default_factory=dict)
    seen: sightings.Seen = field(default_factory=sightings.Seen)
    texts: dict[str, str] = field(default_factory=dict)
    hits: set[tuple[str, str, str]] = field(default_factory=set)
    readable: set[tuple[str, str, str]] = field(default_factory=set)
    spool: list[str] = field(default_factory=list)
    looked: int = 0
    control: str = ""


def objects(values: Mapping[str, bytes]) -> list[dict[str, Any]]:
    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    word = values["password"].decode()
    login = {"registry.lab:5000": {"username": "alice", "password": word}}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "planted"},
            "data": {
                "value": encoded(values["env"]),
                "up": encoded(b"../" + values["unusable"]),
                "long": encoded(values["unusable"] * 20),
                "nul": encoded(values["unusable"] + b"\0" + values["unusable"]),
                "bytes": encoded(values["unusable"] + b"\xff\xfe" + values["unusable"]),
                "large": encoded(values["unusable"] * 5000),
                "home": encoded(b"/" + values["env"]),
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "planted-file"},
            "data": {"file": encoded(values["file"])},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "planted-login"},
            "data": {".dockerconfigjson": encoded(json.dumps({"auths": login}).encode())},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "planted"},
            "data": {"value": values["map"].decode()},
        },
    ]


def variable(name: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": "planted", "key": key}}}


def pod(name: str, engine: str, *command: str, **changes: Any) -> dict[str, Any]:
    """A pod that uses everything that was planted; `changes` are the container's."""
    container = {
        "command": list(command),
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        "envFrom": [{"configMapRef": {"name": "planted"}, "prefix": "MAP_"}],
        "env": [variable("SECRET", "value"), *changes.pop("env", ())],
        "volumeMounts": [
            {"name": "secret", "mountPath": "/secret"},
            {"name": "map", "mountPath": "/map"},
            *changes.pop("volumeMounts", ()),
        ],
        **changes,
    }
    return pods.manifest(
        f"sec-{name}-{engine}",
        *command,
        annotations={"slurmlet.io/engine": engine},
        container=container,
        terminationGracePeriodSeconds=1,
        imagePullSecrets=[{"name": "planted-login"}],
        volumes=[
            {"name": "secret", "secret": {"secretName": "planted-file"}},
            {"name": "map", "configMap": {"name": "planted"}},
            {"name": "scratch", "emptyDir": {}},
        ],
    )


def below(key: str) -> dict[str, Any]:
    mount = {"name": "scratch", "mountPath": "/scratch", "subPathExpr": "$(BAD)"}
    return {"env": [variable("BAD", key)], "volumeMounts": [mount]}


def wanted() -> list[dict[str, Any]]:
    result = []
    for engine in ENGINES:
        result += [
            pod("runs", engine, "sh", "-c", SLEEP),
            pod("crashes", engine, "sh", "-c", "exit 3"),
            pod("no-command", engine, "/no/such/program"),
            pod("no-program", engine, "/etc/passwd"),
            pod("no-image", engine, "true", image="registry.lab:5000/none:1"),
            pod("no-key", engine, "true", env=[variable("BAD", "missing")]),
            pod("home", engine, "true", env=[variable("HOME", "home")]),
            pod("nul", engine, "true", env=[variable("BAD", "nul")]),
            pod("bytes", engine, "true", env=[variable("BAD", "bytes")]),
            pod("large", engine, "true", env=[variable("BAD", "large")]),
            *(pod(f"path-{key}", engine, "true", **below(key)) for key in ("up", "long", "nul")),
        ]
    return result


def settled(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of pods that run, ended, or say what they wait for."""
    result = []
    for name, item in found.items():
        states = [s.get("state", {}) for s in item["status"].get("containerStatuses") or ()]
        waiting = [state["waiting"].get("reason") for state in states if "waiting" in state]
        if states and not set(waiting) & set(UNUSED):
            result.append(name)
    return result


def secrets_of_jobs(lab: Lab, found: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    """The agent's key, the tokens made with it, a broker's credential, an account's token."""
    key = base64.b64decode(lab.run("ctl", ["base64", "-w0", KEY]).stdout)
    result = {"key": key}
    for name, item in found.items():
        made = token(key=key, uid=item["metadata"]["uid"], attempt=1, user="alice")
        result[f"token of {name}"] = made.encode()
    running = [name for name in found if "-runs-" in name]
    for name in running:
        argv = ["timeout", "60", "srun", f"--k8s-pod=alice/{name}", "cat", ACCOUNT_TOKEN]
        said = lab.run("ctl", argv, user="alice", timeout=90).stdout.strip()
        result[f"account of {name}"] = said.rpartition(".")[2].encode()
    job = pods.job_id(found[running[0]])
    script = (
        f"for d in /proc/[0-9]*; do grep -q job_{job}/ $d/cgroup 2>/dev/null &&"
        " tr '\\0' '\\n' <$d/environ | sed -n 's/^SLURMLET_TOKEN=//p'; done | head -1"
    )
    held = {lab.run(node, ["sh", "-c", script]).stdout.strip() for node in NODES}
    assert result[f"token of {running[0]}"].decode() in held, "tokens are made otherwise"
    return result


def credentials(lab: Lab, spool: list[str]) -> dict[str, bytes]:
    """Those that the broker signed, as slurmctld keeps them."""
    argv = ["grep", "-raohE", "SLURMLET_CREDENTIAL=MUNGE:[^:]{40,}", *spool]
    lines = set(lab.run("ctl", argv, check=False).stdout.split())
    bodies = {line.rpartition(":")[2][:64].encode() for line in lines}
    return {f"credential {number}": body for number, body in enumerate(sorted(bodies)[:20])}


@pytest.fixture(scope="module")
def planted(lab: Lab) -> Iterator[Planted]:
    result = Planted(control=plant("control"))
    result.values = {
        kind: plant(kind).encode() for kind in ("env", "file", "map", "password", "unusable")
    }
    manifests = wanted()
    names = [item["metadata"]["name"] for item in manifests]
    pods.delete(lab, *names)
    kept = ("secret/planted", "secret/planted-file", "secret/planted-login", "configmap/planted")
    lab.kubectl("alice", "delete", "--ignore-not-found", *kept)
    since = float(lab.run("ctl", ["date", "+%s"]).stdout)
    with sightings.command_lines() as result.seen:
        pods.create(lab, *objects(result.values), *manifests)
        for _ in range(3):
            for node in NODES:
                lab.run(node, ["true", result.control])
        found = pods.until(
            lambda: pods.get_all(lab, names),
            lambda found: len(settled(found)) == len(names),
            seconds=300,
            what="every pod's start or failure",
        )
        result.spool = sightings.spool_of(lab)
        result.values |= secrets_of_jobs(lab, found) | credentials(lab, result.spool)
        patterns = sightings.patterns_of(result.values)
        for user in ("alice", "bob"):
            result.texts[f"Slurm to {user}"] = sightings.slurm_says(lab, user=user)
        for node in NODES:
            _, hits = sightings.on_node(
                lab,
                node,
                patterns,
                since=since,
                roots=("/run", "/tmp", "/dev/shm", "/home", "/var/tmp", "/var/log"),
                user="bob",
                journal=False,
            )
            result.readable |= {(node, *hit) for hit in hits}
        for kind in ("pods", "events"):
            answer = lab.kubectl("root", "get", kind, "-A", "-o", "json")
            result.texts[f"the API's {kind}"] = answer.stdout
        running = [name for name in names if "-runs-" in name]
        lab.run("ctl", ["scancel", pods.job_id(found[running[0]])], user="alice")
        lab.kubectl("alice", "delete", "pod", *names, "--timeout=120s")
        result.texts["the API's later events"] = lab.kubectl(
            "root", "get", "events", "-A", "-o", "json"
        ).stdout
    lab.run("c1", ["sh", "-c", f"echo {result.control} >/tmp/planted-control"])
    lab.run("c1", ["logger", result.control])
    patterns = {**patterns, "control": sightings.forms(result.control.encode())}
    time.sleep(1)
    for node in ("ctl", *NODES):
        without = (STORE,) if node == "ctl" else ("/home",)
        count, hits = sightings.on_node(lab, node, patterns, since=since, without=without)
        result.looked += count
        result.hits |= {(node, *hit) for hit in hits}
    yield result
    lab.run("c1", ["rm", "-f", "/tmp/planted-control"])
    lab.kubectl("alice", "delete", "--ignore-not-found", "--wait=false", *kept)


def allowed(planted: Planted, node: str, place: str, name: str) -> bool:
    if name == "control":
        return True
    if name == "key":
        return (node, place) == ("ctl", KEY)
    own = name.startswith(("token of ", "credential "))
    return own and any(place.startswith(f"{directory}/") for directory in planted.spool)


@pytest.mark.claim("L31")
@pytest.mark.timeout(900)
def test_nothing_planted_is_in_a_command_line(planted: Planted) -> None:
    seen = planted.seen
    print(f"{seen.execs} execs, {seen.read} read, {seen.lost} lost, {len(seen.lines)} distinct")
    assert any(planted.control in line for line in seen.lines), "the watch sees nothing"
    assert any("sbatch" in line and "/alice/sec-" in line for line in seen.lines)
    assert any("slurmlet.supervisor" in line for line in seen.lines)
    patterns = sightings.patterns_of(planted.values)
    wrong = [line for line in seen.lines if sightings.in_text(line, patterns)]
    assert wrong == []


@pytest.mark.claim("L31")
def test_nothing_planted_is_told_by_slurm_or_the_api(planted: Planted) -> None:
    patterns = sightings.patterns_of(planted.values)
    assert all("sec-runs" in planted.texts[f"Slurm to {user}"] for user in ("alice",))
    assert "SubmitLine" not in planted.texts["the API's pods"]
    found = {name: sightings.in_text(text, patterns) for name, text in planted.texts.items()}
    assert {name: values for name, values in found.items() if values} == {}


@pytest.mark.claim("L31")
def test_nothing_planted_stays_or_can_be_read_by_others(planted: Planted) -> None:
    print(f"{planted.looked} files and lines")
    for place in ("/tmp/planted-control", "the journal"):
        assert ("c1", place, "control") in planted.hits, "the search finds nothing"
    assert any(name.startswith("credential") for name in planted.values)
    assert any(name == "key" for _, _, name in planted.hits) or "key" in planted.values
    assert planted.readable == set()
    assert {hit for hit in planted.hits if not allowed(planted, *hit)} == set()


@pytest.mark.claim("L32")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["path-up", "path-long", "path-nul", "nul", "large"])
def test_a_value_that_cannot_be_used_is_not_quoted(
    planted: Planted, name: str, engine: str
) -> None:
    """But the author of a path learns what is wrong with it."""
    items = json.loads(planted.texts["the API's pods"])["items"]
    (found,) = [i for i in items if i["metadata"]["name"] == f"sec-{name}-{engine}"]
    (status,) = found["status"]["containerStatuses"]
    (state,) = status["state"].values()
    said = f"{state.get('reason')}: {state.get('message')}"
    print(said)
    assert not re.search("plant", said)
    assert not name.startswith("path-") or "subPath '$(BAD)'" in said
