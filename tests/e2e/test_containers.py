"""What pods commonly use: containers in their order, environment, volumes, restarts, ends.

All pods are made at once, and the tests only look.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab
from tests.e2e.watching import Watch, conditions, watch

from slurmlab.names import NODES

ENGINES = ["crun", "apptainer"]
LABEL = "suite=containers"
WEB = "registry.lab:5000/web:1.0"
PYTHON = "registry.lab:5000/python:3.13"
AGNHOST = "registry.lab:5000/e2e-test-images/agnhost:2.63.0"
NOWHERE = "registry.lab:5000/no-such-image:1"
ADDRESSES = {node.name: node.address for node in NODES}
PATIENCE = 240.0
"""Seconds for a pod among thirty on a busy machine."""

Object = dict[str, Any]


def container(name: str, script: str, **fields: Any) -> Object:
    resources = {"requests": {"cpu": "100m", "memory": "16Mi"}}
    given = {"name": name, "image": pods.BUSYBOX, "command": ["sh", "-c", script]}
    return given | {"resources": resources} | fields


def pod(name: str, *containers: Object, metadata: Object | None = None, **spec: Any) -> Object:
    given = {"name": name, "labels": {"suite": "containers"}, **(metadata or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": given,
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": list(containers),
            **spec,
        },
    }


def engine_of(engine: str, **annotations: str) -> Object:
    return {"annotations": {"slurmlet.io/engine": engine, **annotations}}


def shared(*names: str) -> list[Object]:
    return [{"name": name, "emptyDir": {}} for name in names or ("shared",)]


MOUNT = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}

OBJECTS: list[Object] = [
    {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "ct-config"},
        "data": {"colour": "green", "shape": "round", "file.txt": "one\ntwo\n"},
        "binaryData": {"raw": "AAEC/w=="},
    },
    {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"name": "ct-secret"},
        "stringData": {"word": "xyzzy", "other": "plugh"},
    },
]


def field(path: str) -> Object:
    return {"valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name: str, divisor: str = "1") -> Object:
    return {"valueFrom": {"resourceFieldRef": {"resource": name, "divisor": divisor}}}


def reference(kind: str, name: str, key: str, **fields: Any) -> Object:
    return {"valueFrom": {f"{kind}KeyRef": {"name": name, "key": key, **fields}}}


ENVIRONMENT: Mapping[str, Object] = {
    "PLAIN": {"value": "a 'b' \"c\" $HOME `d`\nand a second line"},
    "EARLIER": {"value": "$(PLAIN)!"},
    "LATER": {"value": "$(AFTERWARDS)"},
    "DOLLARS": {"value": "$$(PLAIN)"},
    "FROM_PREFIX": {"value": "$(X_colour) $(X_shape)"},
    "CONFIGURED": reference("configMap", "ct-config", "shape"),
    "SECRET": reference("secret", "ct-secret", "word"),
    "NO_KEY": reference("configMap", "ct-config", "none", optional=True),
    "NO_MAP": reference("secret", "ct-none", "none", optional=True),
    "AFTERWARDS": {"value": "too late"},
    "NAME": field("metadata.name"),
    "NAMESPACE": field("metadata.namespace"),
    "POD_UID": field("metadata.uid"),
    "LABEL": field("metadata.labels['suite']"),
    "NODE": field("spec.nodeName"),
    "ACCOUNT": field("spec.serviceAccountName"),
    "POD_IP": field("status.podIP"),
    "HOST_IP": field("status.hostIP"),
    "CPUS": resource("requests.cpu", "1m"),
    "MEMORY": resource("limits.memory", "1Mi"),
    "ALL_CPUS": resource("limits.cpu"),
}


def environment_pod(engine: str) -> Object:
    # As Kubernetes reads it, $$$$ is the $$ of the shell.
    script = 'echo "$GREETING"; base64 -w0 /proc/$$$$/environ; exit 0'
    env = [{"name": name, **source} for name, source in ENVIRONMENT.items()]
    return pod(
        f"ct-env-{engine}",
        container(
            "main",
            script,
            command=["sh", "-c", script, "$(PLAIN)"],
            env=[*env, {"name": "GREETING", "value": "hello $(NAME)"}],
            envFrom=[
                {"configMapRef": {"name": "ct-config"}, "prefix": "X_"},
                {"secretRef": {"name": "ct-secret"}},
                {"configMapRef": {"name": "ct-none", "optional": True}},
            ],
            resources={
                "requests": {"cpu": "250m", "memory": "32Mi"},
                "limits": {"memory": "48Mi"},
            },
        ),
        metadata=engine_of(engine),
    )


def volumes_pod(engine: str) -> Object:
    look = (
        "cd /v; for f in $(find -L . -type f | grep -v '/\\.\\.' | sort); do"
        ' echo "$f $(stat -L -c %a $f) $(base64 -w0 $f)"; done;'
        " echo new > /etc/made/inner && echo written; touch /v/map/x 2>&1 | grep -c 'Read-only'"
    )
    items = [{"key": "colour", "path": "sub/colour"}, {"key": "shape", "path": "s", "mode": 0o440}]
    projected: list[Object] = [
        {"configMap": {"name": "ct-config", "items": [{"key": "colour", "path": "c"}]}},
        {"secret": {"name": "ct-secret", "items": [{"key": "word", "path": "w", "mode": 0o400}]}},
        {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"secret": {"name": "ct-none", "optional": True}},
    ]
    return pod(
        f"ct-vol-{engine}",
        container(
            "main",
            look,
            volumeMounts=[
                {"name": "map", "mountPath": "/v/map"},
                {"name": "items", "mountPath": "/v/items"},
                {"name": "secret", "mountPath": "/v/secret", "readOnly": True},
                {"name": "none", "mountPath": "/v/none"},
                {"name": "projected", "mountPath": "/v/projected"},
                {"name": "downward", "mountPath": "/v/downward"},
                {"name": "map", "mountPath": "/v/single/file.txt", "subPath": "file.txt"},
                {"name": "shared", "mountPath": "/etc/made", "subPath": "deep/er"},
                {"name": "memory", "mountPath": "/v/memory"},
            ],
        ),
        initContainers=[
            container(
                "before",
                "echo from init > /shared/deep/er/before; echo ram > /memory/ram;"
                " stat -f -c %T /memory",
                volumeMounts=[
                    {"name": "shared", "mountPath": "/shared"},
                    {"name": "shared", "mountPath": "/made", "subPath": "deep/er"},
                    {"name": "memory", "mountPath": "/memory"},
                ],
            )
        ],
        metadata=engine_of(engine),
        volumes=[
            {"name": "map", "configMap": {"name": "ct-config"}},
            {"name": "items", "configMap": {"name": "ct-config", "items": items}},
            {"name": "secret", "secret": {"secretName": "ct-secret", "defaultMode": 0o400}},
            {"name": "none", "configMap": {"name": "ct-none", "optional": True}},
            {"name": "projected", "projected": {"defaultMode": 0o600, "sources": projected}},
            {
                "name": "downward",
                "downwardAPI": {
                    "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
                },
            },
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            *shared(),
        ],
    )


def image_pod(engine: str) -> Object:
    def given(name: str, image: str, **fields: Any) -> Object:
        made = container(name, "", image=image, imagePullPolicy="Always", **fields)
        if "command" not in fields:
            del made["command"]
        return made

    return pod(
        f"ct-image-{engine}",
        given("entrypoint", WEB, args=["-v"]),
        given("directory", WEB, command=["pwd"]),
        given("own", pods.BUSYBOX, command=["pwd"], workingDir="/made/here"),
        given("variable", PYTHON, command=["sh", "-c", "echo $PYTHONUNBUFFERED"]),
        given("cmd", AGNHOST, args=["help"]),
        metadata=engine_of(engine),
    )


def message_pod(engine: str) -> Object:
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    return pod(
        f"ct-message-{engine}",
        container("default", "echo -n the usual place > /dev/termination-log"),
        container("own", "echo -n mine > /tmp/end; exit 4", terminationMessagePath="/tmp/end"),
        container("fallback", "seq 100; exit 3", **fallback),
        container("success", "seq 100", **fallback),
        container("preferred", "echo log; echo -n file > /tmp/m; exit 3", **fallback)
        | {"terminationMessagePath": "/tmp/m"},
        container("user", "echo -n by another > /tmp/m; id -u", terminationMessagePath="/tmp/m")
        | {"securityContext": {"runAsUser": 1000}},
        metadata=engine_of(engine),
    )


def term_pod(name: str) -> Object:
    """With a finalizer, so that its end can be looked at."""
    polite = "trap 'echo got TERM; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    deaf = "trap 'echo not me' TERM; echo ready; while :; do sleep 0.1; done"
    return pod(
        name,
        container("polite", polite),
        container("deaf", deaf),
        metadata={"finalizers": ["example.org/looked-at"]},
        terminationGracePeriodSeconds=6,
    )


LOOP = "date +%s >> /shared/starts; cat /shared/starts; exit 1"
PODS = [
    pod(
        "ct-init",
        container("main", "cat /shared/order; exit 0", **MOUNT),
        initContainers=[
            container("one", "sleep 1; echo one >> /shared/order", **MOUNT),
            container("two", "echo two >> /shared/order", **MOUNT),
            container("three", "echo three >> /shared/order", **MOUNT),
        ],
        volumes=shared(),
    ),
    pod(
        "ct-init-fails",
        container("main", "echo never"),
        initContainers=[container("bad", "exit 3"), container("next", "echo never")],
    ),
    pod(
        "ct-init-again",
        container("main", "cat /shared/tries", **MOUNT),
        initContainers=[
            container("try", "echo try >> /shared/tries; [ $(wc -l < /shared/tries) = 2 ]", **MOUNT)
        ],
        restartPolicy="OnFailure",
        volumes=shared(),
    ),
    pod(
        "ct-life",
        container("main", "sleep 4; exit 0"),
        initContainers=[container("init", "sleep 4")],
        metadata={"annotations": {"slurmlet.io/begin": "now+4"}},
    ),
    *(make(engine) for make in (environment_pod, volumes_pod, image_pod) for engine in ENGINES),
    *(message_pod(engine) for engine in ENGINES),
    pod(
        "ct-exit",
        container("good", "exit 0"),
        container("seven", "exit 7"),
        container("killed", "kill -9 $$$$"),
        container("signal", "kill -15 $$$$"),
    ),
    pod("ct-loop", container("main", LOOP, **MOUNT), restartPolicy="Always", volumes=shared()),
    pod(
        "ct-onfailure",
        container("main", "[ -e /shared/x ] && exit 0; touch /shared/x; exit 3", **MOUNT),
        container("done", "echo once"),
        restartPolicy="OnFailure",
        volumes=shared(),
    ),
    term_pod("ct-term"),
    pod(
        "ct-deadline",
        container("main", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        activeDeadlineSeconds=25,
        terminationGracePeriodSeconds=60,
        restartPolicy="Always",
    ),
    pod("ct-pull", container("main", "true", image=NOWHERE), activeDeadlineSeconds=25),
    pod(
        "ct-queue",
        container("main", "exit 0"),
        activeDeadlineSeconds=25,
        metadata={"annotations": {"slurmlet.io/begin": "now+32"}},
    ),
    pod(
        "ct-timelimit",
        container("main", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        metadata={"annotations": {"slurmlet.io/time": "1"}},
    ),
]
NAMES = [item["metadata"]["name"] for item in PODS]


@pytest.fixture(scope="module")
def seen(lab: Lab) -> Iterator[Watch]:
    """Everything is made at once; what a watch sees of it."""
    remove(lab)
    pods.create(lab, *OBJECTS)
    with watch(lab, LABEL) as found:
        pods.create(lab, *PODS)
        yield found
    remove(lab, wait="false")


def remove(lab: Lab, *, wait: str = "true") -> None:
    free(lab, "ct-term")
    words = ["configmap/ct-config", "secret/ct-secret", *(f"pod/{name}" for name in NAMES)]
    gone = ["--ignore-not-found", f"--wait={wait}", "--timeout=120s", "--grace-period=1"]
    lab.kubectl("alice", "delete", *words, *gone)


def free(lab: Lab, name: str) -> None:
    patch = ["--type=merge", "-p", '{"metadata":{"finalizers":null}}']
    lab.kubectl("alice", "patch", f"pod/{name}", *patch, check=False)


def ended(lab: Lab, name: str) -> Object:
    return pods.wait_for_phase(lab, name, "Succeeded", "Failed", seconds=PATIENCE)


def statuses(item: Object, key: str = "containerStatuses") -> dict[str, Object]:
    return {each["name"]: each for each in item["status"].get(key) or ()}


def end_of(item: Object, name: str, key: str = "containerStatuses") -> Object:
    found: Object = statuses(item, key)[name]["state"]["terminated"]
    return found


def changes(items: list[Any]) -> list[Any]:
    """Without what is as the one before."""
    return [each for number, each in enumerate(items) if not number or each != items[number - 1]]


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def logs(lab: Lab, name: str, *words: str) -> str:
    return lab.kubectl("alice", "logs", name, *words).stdout


def events(lab: Lab, name: str) -> list[Object]:
    uid = pods.get(lab, name)["metadata"]["uid"]
    words = ["get", "events", "-o", "json", "--field-selector", f"involvedObject.uid={uid}"]
    found: list[Object] = json.loads(lab.kubectl("alice", *words).stdout)["items"]
    return found


def until_told(lab: Lab, name: str, *reasons: str) -> dict[str, list[Object]]:
    """The pod's events by reason, once these are there."""
    found = pods.until(
        lambda: events(lab, name),
        lambda items: {*reasons} <= {item["reason"] for item in items},
        seconds=60,
        what=f"events of {name}: {reasons}",
    )
    return {
        each: [i for i in found if i["reason"] == each] for each in {i["reason"] for i in found}
    }


@pytest.mark.timeout(400)
@pytest.mark.claim("L1")
def test_init_containers_run_one_after_the_other(lab: Lab, seen: Watch) -> None:
    done = ended(lab, "ct-init")
    assert pods.phase(done) == "Succeeded"
    assert logs(lab, "ct-init", "-c", "main") == "one\ntwo\nthree\n"
    inits = [end_of(done, name, "initContainerStatuses") for name in ("one", "two", "three")]
    times = [moment(each[key]) for each in inits for key in ("startedAt", "finishedAt")]
    assert times == sorted(times)
    assert statuses(done, "initContainerStatuses")["one"]["ready"] is True


@pytest.mark.timeout(400)
@pytest.mark.claim("L1")
def test_an_init_container_that_fails(lab: Lab, seen: Watch) -> None:
    """It ends a pod that never restarts, before the others, and is repeated in any other."""
    done = ended(lab, "ct-init-fails")
    assert pods.phase(done) == "Failed"
    assert end_of(done, "bad", "initContainerStatuses")["exitCode"] == 3
    waiting = [
        statuses(done, "initContainerStatuses")["next"]["state"],
        statuses(done)["main"]["state"],
    ]
    assert [each["waiting"]["reason"] for each in waiting] == ["PodInitializing"] * 2
    assert conditions(done)["Initialized"] == "False/ContainersNotInitialized"
    again = ended(lab, "ct-init-again")
    assert pods.phase(again) == "Succeeded"
    assert statuses(again, "initContainerStatuses")["try"]["restartCount"] == 1
    assert logs(lab, "ct-init-again", "-c", "main") == "try\ntry\n"


@pytest.mark.timeout(400)
@pytest.mark.claim("L2", "L3")
@pytest.mark.parametrize("engine", ENGINES)
def test_environment(lab: Lab, seen: Watch, engine: str) -> None:
    name = f"ct-env-{engine}"
    done = ended(lab, name)
    assert pods.phase(done) == "Succeeded", done["status"]
    script = "import base64,os,sys; sys.stdout.write(base64.b64decode(sys.stdin.read()).decode())"
    greeting, encoded = logs(lab, name).split("\n", 1)
    text = lab.run("ctl", ["python3", "-c", script], input=encoded).stdout
    found = dict(entry.split("=", 1) for entry in text.split("\0") if entry)
    assert greeting == f"hello {name}"
    plain = ENVIRONMENT["PLAIN"]["value"]
    status = done["status"]
    node = done["metadata"]["annotations"]["status.slurmlet.io/nodes"]
    wanted = {
        "PLAIN": plain,
        "EARLIER": f"{plain}!",
        "LATER": "$(AFTERWARDS)",
        "DOLLARS": "$(PLAIN)",
        "FROM_PREFIX": "green round",
        "CONFIGURED": "round",
        "SECRET": "xyzzy",
        "X_colour": "green",
        "word": "xyzzy",
        "other": "plugh",
        "NAME": name,
        "NAMESPACE": "alice",
        "POD_UID": done["metadata"]["uid"],
        "LABEL": "containers",
        "NODE": "slurm",
        "ACCOUNT": "default",
        "POD_IP": status["podIP"],
        "HOST_IP": status["hostIP"],
        "CPUS": "250",
        "MEMORY": "48",
        "ALL_CPUS": "1",
    }
    assert {key: found.get(key) for key in wanted} == wanted
    # Apptainer has an image's shell set them, which knows no such names.
    assert found.get("X_file.txt") == ("one\ntwo\n" if engine == "crun" else None)
    assert not {"NO_KEY", "NO_MAP", "raw", "X_raw"} & set(found)
    assert status["hostIP"] == ADDRESSES[node]
    assert status["podIP"] not in ADDRESSES.values()


FILES: Mapping[str, tuple[str, bytes]] = {
    "./downward/labels": ("644", b'suite="containers"'),
    "./items/s": ("440", b"round"),
    "./items/sub/colour": ("644", b"green"),
    "./map/colour": ("644", b"green"),
    "./map/file.txt": ("644", b"one\ntwo\n"),
    "./map/raw": ("644", b"\0\1\2\xff"),
    "./map/shape": ("644", b"round"),
    "./memory/ram": ("644", b"ram\n"),
    "./projected/c": ("600", b"green"),
    "./projected/w": ("400", b"xyzzy"),
    "./secret/other": ("400", b"plugh"),
    "./secret/word": ("400", b"xyzzy"),
    "./single/file.txt": ("644", b"one\ntwo\n"),
}


@pytest.mark.timeout(400)
@pytest.mark.claim("L4")
@pytest.mark.parametrize("engine", ENGINES)
def test_volumes(lab: Lab, seen: Watch, engine: str) -> None:
    name = f"ct-vol-{engine}"
    done = ended(lab, name)
    assert pods.phase(done) == "Succeeded", done["status"]
    assert logs(lab, name, "-c", "before") == "tmpfs\n"
    *lines, written, read_only = logs(lab, name, "-c", "main").splitlines()
    found = {}
    for line in lines:
        path, mode, data = (line + " ").split(" ")[:3]
        found[path] = (mode, base64.b64decode(data))
    wanted = {**FILES, "./projected/l": ("600", name.encode())}
    assert {path: found.get(path) for path in wanted} == wanted
    assert (written, read_only) == ("written", "1")


@pytest.mark.timeout(400)
@pytest.mark.claim("L5")
@pytest.mark.parametrize("engine", ENGINES)
def test_what_runs_is_the_image_s_unless_the_pod_says_else(
    lab: Lab, seen: Watch, engine: str
) -> None:
    name = f"ct-image-{engine}"
    done = ended(lab, name)
    assert pods.phase(done) == "Succeeded", done["status"]
    said = {each: logs(lab, name, "-c", each) for each in statuses(done)}
    assert said["entrypoint"].startswith("nginx version:")
    assert said["directory"] == "/srv/www\n"
    assert said["own"] == "/made/here\n"
    assert said["variable"] == "1\n"
    assert said["cmd"].startswith("Usage:")
    assert all("@sha256:" in each["imageID"] for each in statuses(done).values())


@pytest.mark.timeout(400)
@pytest.mark.claim("L6", "L7")
def test_exit_codes_and_the_record_of_the_end(lab: Lab, seen: Watch) -> None:
    done = ended(lab, "ct-exit")
    codes = {name: end_of(done, name)["exitCode"] for name in statuses(done)}
    assert codes == {"good": 0, "seven": 7, "killed": 137, "signal": 143}
    reasons = {name: end_of(done, name)["reason"] for name in statuses(done)}
    assert reasons == {"good": "Completed", "seven": "Error", "killed": "Error", "signal": "Error"}
    job, uid = pods.job_id(done), done["metadata"]["uid"]
    rows = pods.until(
        lambda: pods.sacct(lab, job, "State,ExitCode"),
        lambda rows: bool(rows) and rows[0][0] == "FAILED",
        seconds=60,
        what=f"sacct of job {job}",
    )
    assert rows == [["FAILED", "7:0"]]
    text = lab.run(
        "ctl", ["sh", "-c", f"cat ~/.slurmlet/*/pods/{uid}/exit.json"], user="alice"
    ).stdout
    record = json.loads(text)
    assert (record["final"], record["phase"]) == (True, "Failed")
    assert {each["name"]: each["state"]["exit_code"] for each in record["containers"]} == codes


@pytest.mark.timeout(400)
@pytest.mark.claim("L8")
def test_restarts_back_off(lab: Lab, seen: Watch) -> None:
    """At once, then 10 and 20 seconds after the end before."""

    def third(item: Object) -> bool:
        return bool(statuses(item).get("main", {}).get("restartCount", 0) >= 3)

    pods.until(lambda: pods.get(lab, "ct-loop"), third, seconds=PATIENCE, what="three restarts")
    starts = [int(line) for line in logs(lab, "ct-loop").split()]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    print(f"starts after {gaps} s")
    assert gaps[0] < 10 <= gaps[1] < 20 <= gaps[2] < 40
    waited = [
        statuses(item)["main"]["state"].get("waiting", {}).get("message", "")
        for item in seen.of("ct-loop")
        if statuses(item)
    ]
    uid = pods.get(lab, "ct-loop")["metadata"]["uid"]
    for delay in ("10s", "20s"):
        words = f"back-off {delay} restarting failed container=main pod=ct-loop_alice({uid})"
        assert words in waited
    told = until_told(lab, "ct-loop", "BackOff")["BackOff"]
    assert told[0]["type"] == "Warning"
    assert told[0]["message"].startswith("Back-off restarting failed container main in pod ct-loop")
    done = ended(lab, "ct-onfailure")
    assert pods.phase(done) == "Succeeded"
    counts = {name: each["restartCount"] for name, each in statuses(done).items()}
    assert counts == {"main": 1, "done": 0}
    assert statuses(done)["main"]["lastState"]["terminated"]["exitCode"] == 3


@pytest.mark.timeout(400)
@pytest.mark.claim("L9")
def test_deletion_is_a_signal_a_grace_and_a_kill(lab: Lab, seen: Watch) -> None:
    lab.kubectl("alice", "wait", "--for=condition=Ready", "pod/ct-term", f"--timeout={PATIENCE}s")
    for name in ("polite", "deaf"):
        pods.until(
            lambda name=name: logs(lab, "ct-term", "-c", name),  # type: ignore[misc]
            lambda text: "ready" in text,
            seconds=30,
            what=f"{name} listens",
        )
    lab.kubectl("alice", "delete", "pod", "ct-term", "--wait=false")
    done = ended(lab, "ct-term")
    polite, deaf = end_of(done, "polite"), end_of(done, "deaf")
    assert (polite["exitCode"], deaf["exitCode"]) == (5, 137)
    assert logs(lab, "ct-term", "-c", "polite") == "ready\ngot TERM\n"
    assert "not me" in logs(lab, "ct-term", "-c", "deaf")
    lasted = moment(deaf["finishedAt"]) - moment(polite["finishedAt"])
    print(f"killed {lasted:.0f} s after the signal, of a grace of 6 s")
    assert 3 <= lasted <= 15
    pods.until(
        lambda: {each["message"] for each in events(lab, "ct-term") if each["reason"] == "Killing"},
        lambda said: said == {f"Stopping container {name}" for name in ("polite", "deaf")},
        seconds=60,
        what="events Killing",
    )
    free(lab, "ct-term")


@pytest.mark.timeout(400)
@pytest.mark.claim("L10")
def test_a_deadline_ends_a_pod_as_such(lab: Lab, seen: Watch) -> None:
    """While it runs, whatever its grace, and while it pulls; the queue does not count."""
    done = ended(lab, "ct-deadline")
    status = done["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert "longer than the specified deadline" in status["message"]
    lasted = moment(end_of(done, "main")["finishedAt"]) - moment(status["startTime"])
    print(f"ended {lasted:.0f} s after its start, with a deadline of 25 s")
    assert 24 <= lasted < 60
    assert "DeadlineExceeded" in until_told(lab, "ct-deadline", "DeadlineExceeded")
    job = pods.job_id(done)
    # The grace and Slurm's inexactness fit into the job.
    assert pods.sacct(lab, job, "TimelimitRaw") == [["3"]]
    pulled = ended(lab, "ct-pull")["status"]
    assert (pulled["phase"], pulled["reason"]) == ("Failed", "DeadlineExceeded")
    queued = ended(lab, "ct-queue")
    assert pods.phase(queued) == "Succeeded"
    created, started = queued["metadata"]["creationTimestamp"], queued["status"]["startTime"]
    assert moment(started) - moment(created) > 26


@pytest.mark.timeout(400)
@pytest.mark.claim("L10")
def test_the_time_limit_of_the_job_is_a_deadline(lab: Lab, seen: Watch) -> None:
    """Although its containers ended well upon the signal."""
    done = ended(lab, "ct-timelimit")
    assert (done["status"]["phase"], done["status"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert end_of(done, "main")["exitCode"] == 0


@pytest.mark.timeout(400)
@pytest.mark.claim("L11")
def test_conditions_follow_the_life_of_a_pod(lab: Lab, seen: Watch) -> None:
    done = ended(lab, "ct-life")
    stages = [conditions(item) for item in seen.of("ct-life")]

    def stage(
        ready: str, containers: str, initialized: str, startable: str, scheduled: str = "True"
    ) -> dict[str, str]:
        return {
            "Ready": ready,
            "ContainersReady": containers,
            "Initialized": initialized,
            "PodReadyToStartContainers": startable,
            "PodScheduled": scheduled,
        }

    waits = "False/ContainersNotReady"
    uninitialized = "False/ContainersNotInitialized"
    over = "False/PodCompleted"
    wanted = [
        stage(waits, waits, uninitialized, "False"),
        stage(waits, waits, uninitialized, "True"),
        stage("True", "True", "True", "True"),
        stage(over, over, "True/PodCompleted", "False"),
    ]
    found = [each for each in stages if each in wanted]
    assert changes(found) == wanted, stages
    generation = done["metadata"]["generation"]
    assert done["status"]["observedGeneration"] == generation
    assert {each["observedGeneration"] for each in done["status"]["conditions"]} == {generation}
    phases = [pods.phase(item) for item in seen.of("ct-life")]
    assert changes(phases) == ["Pending", "Running", "Succeeded"]


@pytest.mark.timeout(400)
@pytest.mark.claim("L12")
def test_events_are_kubelet_s(lab: Lab, seen: Watch) -> None:
    ended(lab, "ct-init")
    told = until_told(lab, "ct-init", "Pulled", "Created", "Started")
    for reason, message in (("Created", "Container created"), ("Started", "Container started")):
        assert {each["message"] for each in told[reason]} == {message}
        paths = {each["involvedObject"]["fieldPath"] for each in told[reason]}
        wanted = {f"spec.initContainers{{{name}}}" for name in ("one", "two", "three")}
        assert paths == wanted | {"spec.containers{main}"}
    assert {each["source"]["component"] for each in told["Started"]} == {"kubelet"}
    ended(lab, "ct-image-crun")
    pulled = until_told(lab, "ct-image-crun", "Pulling", "Pulled")
    assert f'Pulling image "{WEB}"' in {each["message"] for each in pulled["Pulling"]}
    ended(lab, "ct-pull")
    failed = until_told(lab, "ct-pull", "Failed", "BackOff")
    messages = {each["message"] for each in failed["Failed"]}
    assert "Error: ErrImagePull" in messages
    assert any(each.startswith(f'Failed to pull image "{NOWHERE}"') for each in messages)
    assert f'Back-off pulling image "{NOWHERE}"' in {each["message"] for each in failed["BackOff"]}
    reasons = {
        statuses(item)["main"]["state"].get("waiting", {}).get("reason")
        for item in seen.of("ct-pull")
        if statuses(item)
    }
    assert {"ErrImagePull", "ImagePullBackOff"} & reasons


@pytest.mark.timeout(400)
@pytest.mark.claim("L13")
@pytest.mark.parametrize("engine", ENGINES)
def test_termination_messages(lab: Lab, seen: Watch, engine: str) -> None:
    done = ended(lab, f"ct-message-{engine}")
    found = {name: end_of(done, name).get("message", "") for name in statuses(done)}
    numbers = "".join(f"{number}\n" for number in range(21, 101))
    wanted = {
        "default": "the usual place",
        "own": "mine",
        "fallback": numbers,
        "success": "",
        "preferred": "file",
        "user": "by another",
    }
    assert found == wanted
