"""One pod, from kubectl apply to its accounting row."""

import json
import time
from collections.abc import Iterator

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab

NODES = ["c1", "c2"]
ENGINES = ["crun", "apptainer"]


@pytest.fixture
def clean(lab: Lab) -> Iterator[list[str]]:
    """Names put into the list are deleted after the test."""
    names: list[str] = []
    yield names
    if names:
        pods.delete(lab, *names)


def on_node(node: str) -> dict[str, str]:
    """Annotations that let Slurm choose no other node."""
    others = {"c1": "c2", "c2": "c1"}[node]
    return {"slurmlet.io/flags": f"--exclude={others}"}


@pytest.mark.claim("F1", "F3")
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_pod_is_a_job_of_its_user(lab: Lab, clean: list[str], engine: str, node: str) -> None:
    name = f"hello-{engine}-{node}"
    clean.append(name)
    text = "a 'quoted' \"value\" with $HOME, `ticks`\nand a second line"
    pod = pods.manifest(
        name,
        "sh",
        "-c",
        'echo "says $WORD"; pwd; echo to stderr >&2; exit 7',
        annotations=on_node(node) | {"slurmlet.io/engine": engine},
        container={"env": [{"name": "WORD", "value": text}], "workingDir": "/tmp"},
    )
    pods.create(lab, pod)
    done = pods.wait_for_phase(lab, name, "Failed", "Succeeded")

    assert pods.phase(done) == "Failed"
    assert pods.exit_code(done) == 7
    logs = lab.kubectl("alice", "logs", name).stdout
    assert sorted(logs.splitlines()) == sorted(f"says {text}\n/tmp\nto stderr".splitlines())
    job = pods.job_id(done)
    rows = pods.until(
        lambda: pods.sacct(lab, job, "User,JobName,NodeList,State"),
        lambda rows: bool(rows) and rows[0][3] == "FAILED",
        seconds=30,
        what=f"sacct of job {job}",
    )
    uid = done["metadata"]["uid"]
    assert rows == [["alice", f"{uid[:8]}/alice/{name}", node, "FAILED"]]


@pytest.mark.claim("F2")
@pytest.mark.parametrize("node", NODES)
def test_memory_limit_is_enforced(lab: Lab, clean: list[str], node: str) -> None:
    name = f"hog-{node}"
    clean.append(name)
    pod = pods.manifest(
        name,
        "sh",
        "-c",
        "dd if=/dev/zero of=/dev/null bs=400M count=1 && echo survived",
        annotations=on_node(node),
        container={"resources": {"limits": {"cpu": "1", "memory": "64Mi"}}},
    )
    pods.create(lab, pod)
    done = pods.wait_for_phase(lab, name, "Failed", "Succeeded")
    assert pods.phase(done) == "Failed"
    assert "survived" not in lab.kubectl("alice", "logs", name).stdout


def test_environment_volumes_and_token(lab: Lab, clean: list[str]) -> None:
    """ConfigMap, Secret, emptyDir and the service-account volume reach the containers."""
    clean.append("full")
    lab.kubectl("alice", "delete", "configmap/full", "secret/full", "--ignore-not-found")
    lab.kubectl("alice", "create", "configmap", "full", "--from-literal=colour=green")
    lab.kubectl("alice", "create", "secret", "generic", "full", "--from-literal=word=xyzzy")
    script = (
        "echo $COLOUR $WORD; cat /config/colour; echo; echo ready > /shared/flag;"
        " ls /var/run/secrets/kubernetes.io/serviceaccount;"
        " cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo;"
        " test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo token"
    )
    pod = pods.manifest(
        "full",
        "sh",
        "-c",
        script,
        container={
            "env": [
                {
                    "name": "WORD",
                    "valueFrom": {"secretKeyRef": {"name": "full", "key": "word"}},
                }
            ],
            "envFrom": [{"configMapRef": {"name": "full"}, "prefix": "X_"}],
            "volumeMounts": [
                {"name": "config", "mountPath": "/config"},
                {"name": "shared", "mountPath": "/shared"},
            ],
        },
        volumes=[
            {"name": "config", "configMap": {"name": "full"}},
            {"name": "shared", "emptyDir": {}},
        ],
    )
    main = pod["spec"]["containers"][0]
    main["env"].append({"name": "COLOUR", "value": "$(X_colour)"})
    other = main | {
        "name": "other",
        "command": ["sh", "-c", "until [ -f /shared/flag ]; do sleep 0.1; done; echo seen"],
    }
    pod["spec"]["containers"].append(other)
    pods.create(lab, pod)
    pods.wait_for_phase(lab, "full", "Succeeded")
    logs = lab.kubectl("alice", "logs", "full", "-c", "main").stdout.splitlines()
    assert logs[1:] == ["green", "ca.crt", "namespace", "token", "alice", "token"]
    assert logs[0].endswith("xyzzy")
    assert lab.kubectl("alice", "logs", "full", "-c", "other").stdout == "seen\n"


def test_a_container_is_restarted(lab: Lab, clean: list[str]) -> None:
    clean.append("again")
    script = "if [ -e /shared/once ]; then sleep 600; else touch /shared/once; exit 3; fi"
    pod = pods.manifest(
        "again",
        "sh",
        "-c",
        script,
        restartPolicy="OnFailure",
        container={"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
        volumes=[{"name": "shared", "emptyDir": {}}],
    )
    pods.create(lab, pod)

    def restarted(pod: dict[str, object]) -> bool:
        status = pod["status"]
        assert isinstance(status, dict)
        first = (status.get("containerStatuses") or [{}])[0]
        return first.get("restartCount") == 1 and "running" in first.get("state", {})

    done = pods.until(lambda: pods.get(lab, "again"), restarted, seconds=90, what="restart")
    last = done["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert last["exitCode"] == 3


def test_logs_follow_tail_and_since(lab: Lab, clean: list[str]) -> None:
    clean.append("talker")
    script = "for i in 1 2 3 4 5 6; do echo line $i; sleep 1; done"
    pods.create(lab, pods.manifest("talker", "sh", "-c", script))
    pods.wait_for_phase(lab, "talker", "Running", "Succeeded")
    followed = lab.kubectl("alice", "logs", "-f", "talker", timeout=60).stdout.splitlines()
    assert followed == [f"line {i}" for i in range(1, 7)]
    pods.wait_for_phase(lab, "talker", "Succeeded")
    assert lab.kubectl("alice", "logs", "--tail=2", "talker").stdout == "line 5\nline 6\n"
    stamped = lab.kubectl("alice", "logs", "--tail=1", "--timestamps", "talker").stdout
    assert stamped.split(" ", 1)[1] == "line 6\n"
    assert stamped[:4] == str(time.gmtime().tm_year)
    assert lab.kubectl("alice", "logs", "--since=1h", "talker").stdout.count("line") == 6


@pytest.mark.claim("F6")
@pytest.mark.parametrize("engine", ENGINES)
def test_deletion_ends_the_job(lab: Lab, clean: list[str], engine: str) -> None:
    """The container hears SIGTERM and has its grace; afterwards pod and job are gone."""
    name = f"leaver-{engine}"
    script = 'trap "echo bye; exit 0" TERM; echo up; while true; do sleep 0.2; done'
    annotations = {"slurmlet.io/engine": engine}
    pods.create(lab, pods.manifest(name, "sh", "-c", script, annotations=annotations))
    pod = pods.wait_for_phase(lab, name, "Running")
    uid = pod["metadata"]["uid"]
    lab.kubectl("alice", "delete", "pod", name, "--timeout=60s")

    job = pods.job_id(pod)
    pods.until(
        lambda: pods.squeue(lab, job),
        lambda state: state in ("", "COMPLETED", "CANCELLED"),
        seconds=30,
        what=f"end of job {job}",
    )
    log = lab.run("ctl", ["cat", f"/home/alice/.slurmlet/lab/pods/{uid}/main/0.log"]).stdout
    assert [line.split(" ", 3)[3] for line in log.splitlines()] == ["up", "bye"]


def test_a_stubborn_container_is_killed_after_its_grace(lab: Lab) -> None:
    script = 'trap "" TERM; while true; do sleep 0.2; done'
    pods.create(lab, pods.manifest("stubborn", "sh", "-c", script))
    pod = pods.wait_for_phase(lab, "stubborn", "Running")
    lab.kubectl("alice", "delete", "pod", "stubborn", "--timeout=60s")
    state = pods.squeue(lab, pods.job_id(pod))
    assert state in ("", "COMPLETED", "CANCELLED", "FAILED"), state


@pytest.mark.claim("F4")
def test_bob_reaches_nothing_of_alice(lab: Lab, clean: list[str]) -> None:
    clean.append("private")
    pods.create(lab, pods.manifest("private", "sleep", "600"))
    pods.wait_for_phase(lab, "private", "Running")
    for verb in (["get", "pods"], ["logs", "private"], ["delete", "pod", "private"]):
        refused = lab.kubectl("bob", "-n", "alice", *verb, check=False)
        assert refused.returncode != 0
        assert "forbidden" in refused.stderr.lower()


def test_an_unmapped_namespace_is_told_so(lab: Lab) -> None:
    """At once; the agent says the same of pods that the webhook did not see (B26)."""
    lab.kubectl("root", "create", "namespace", "stranger")
    try:
        item = json.dumps(pods.manifest("lost", "true"))
        create = ("-n", "stranger", "create", "-f", "-")
        refused = lab.kubectl("root", *create, input=item, check=False)
        assert refused.returncode != 0
        said = "namespace 'stranger' is not mapped to a Unix user; ask the administrator"
        assert said in refused.stderr
    finally:
        lab.kubectl("root", "delete", "namespace", "stranger", "--timeout=60s")


@pytest.mark.claim("F8")
def test_nothing_of_a_pod_reaches_a_shell(lab: Lab, clean: list[str]) -> None:
    nasty = "$(touch /tmp/x)`touch /tmp/x`;\n'\"\\ \n--wrap=touch /tmp/x"
    clean += ["plain", "nasty"]
    plain = pods.manifest("plain", "sleep", "600")
    nasty_pod = pods.manifest(
        "nasty",
        "sh",
        "-c",
        'printf "%s" "$NASTY" "$@"; echo; sleep 600',
        "-x",
        nasty,
        annotations={"example.org/nasty": nasty},
        container={"env": [{"name": "NASTY", "value": nasty}]},
    )
    pods.create(lab, plain, nasty_pod)
    sums = set()
    for name in ("plain", "nasty"):
        job = pods.job_id(pods.wait_for_phase(lab, name, "Running"))
        shown = lab.run("ctl", ["timeout", "30", "scontrol", "write", "batch_script", job, "-"])
        digest = lab.run("ctl", ["sha256sum"], input=shown.stdout).stdout
        assert "slurmlet.supervisor" in shown.stdout
        sums.add(digest)
    assert len(sums) == 1
    pods.until(
        lambda: lab.kubectl("alice", "logs", "nasty").stdout,
        lambda text: text == f"{nasty}{nasty}\n",
        seconds=20,
        what="the text unchanged",
    )
    for node in ("ctl", *NODES):
        assert lab.run(node, ["test", "-e", "/tmp/x"], check=False).returncode == 1
