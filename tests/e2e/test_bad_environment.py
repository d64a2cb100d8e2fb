"""Commands, names, references and environments that cannot work, or hardly."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e import bystander, pods
from tests.e2e.bystander import (
    Bystander,
    config_map,
    container,
    outcome,
    pod,
    secret,
    wait_for,
    wait_for_events,
)
from tests.e2e.conftest import Lab

ENGINES = ["crun", "apptainer"]
COMMANDS = {
    "missing": (["/no/such"], 'exec: "/no/such": No such file or directory'),
    "nowhere": (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
    "plain": (["/etc/passwd"], 'exec: "/etc/passwd": Permission denied'),
    "directory": (["/etc"], 'exec: "/etc": Permission denied'),
    "interpreter": (["/scripts/run"], 'exec: "/scripts/run": No such file or directory'),
}
BY_A_SHELL = {"127": "exec nosuch", "126": "exec /etc/passwd", "128": "exit 128"}
NASTY = "a\n'b' \"c\" $(HOME) $$(HOME) $(touch /tmp/be) `touch /tmp/be` ;&|\\ é\t"
EXPANDED = NASTY.replace("$(HOME)", "/h", 1).replace("$$(HOME)", "$(HOME)")
HUGE = 100_000
REMEDY = "mount a ConfigMap or Secret as a volume and read it from there"
CANARY = "env-canary"
LONG = "a" * 253
DASHED = f"{'b' * 229}-{'c' * 23}"
"""An event's name that were cut behind the dash would be none."""
LONG_MAP = "m" * 253
MANY = [f"c{number:02}-{'x' * 59}" for number in range(20)]


def of_secret(name: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": "be-bytes", "key": key}}}


def value(name: str, text: str) -> dict[str, str]:
    return {"name": name, "value": text}


def commands(engine: str) -> dict[str, Any]:
    mounts = [{"name": "scripts", "mountPath": "/scripts"}]
    scripts = {"name": "scripts", "configMap": {"name": "be-scripts", "defaultMode": 0o755}}
    found = [
        container(name, *command, volumeMounts=mounts) for name, (command, _) in COMMANDS.items()
    ]
    found += [container(f"shell-{code}", "sh", "-c", it) for code, it in BY_A_SHELL.items()]
    return pod(f"be-commands-{engine}", *found, engine=engine, volumes=[scripts])


def environments(engine: str) -> dict[str, Any]:
    mounts = [{"name": "bytes", "mountPath": "/bytes"}]
    volume = {"name": "bytes", "secret": {"secretName": "be-bytes"}}
    big = "x" * (128 * 1024)
    twice = [value(f"V{number}", "$(A)") for number in range(70)]
    show = 'printf "<%s>" "$NASTY" "$1"'
    return pod(
        f"be-env-{engine}",
        container("nul", "env", env=[of_secret("WORD", "nul")]),
        container("nul-word", "sh", "-c", f"echo {CANARY}\0"),
        container("nul-path", "env", workingDir="/a\0b"),
        container("bytes", "env", env=[of_secret("WORD", "bytes")]),
        container("big", "env", env=[value("BIG", big)]),
        container("big-word", "echo", big),
        container("fits", "sh", "-c", "echo ${#FITS}", env=[value("FITS", "x" * 131_000)]),
        container("total", "env", env=[value("A", "x" * HUGE), *twice]),
        container(
            "nasty",
            *("sh", "-c", show, "sh", NASTY),
            env=[value("HOME", "/h"), value("NASTY", NASTY)],
        ),
        container("files", "od", "-An", "-tx1", "/bytes/bytes", "/bytes/nul", volumeMounts=mounts),
        container(
            "names",
            # Not below a shell, which would leave some out.
            "env",
            env=[value(name, CANARY) for name in ("a.b-c", "A B", "9", "UID", "PLAIN")],
        ),
        engine=engine,
        volumes=[volume],
    )


def waiting() -> list[dict[str, Any]]:
    """Pods that refer to what does not exist, yet or at all."""
    later = {"configMapRef": {"name": "be-late"}}
    key = {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "be-late", "key": "word"}}}
    volume = {"name": "late", "configMap": {"name": "be-late"}}
    mounts = [{"name": "late", "mountPath": "/late"}]
    maybe = {"name": "be-nowhere", "optional": True}
    return [
        pod(
            "be-late-volume",
            container("main", "cat", "/late/colour", volumeMounts=mounts),
            volumes=[volume],
        ),
        pod("be-late-from", container("main", "sh", "-c", "echo $colour", envFrom=[later])),
        pod("be-late-key", container("main", "sh", "-c", "echo $WORD", env=[key])),
        pod(
            "be-late-second",
            container("first", "sleep", "1000"),
            container("second", "sh", "-c", "echo $WORD $colour", env=[key], envFrom=[later]),
        ),
        pod(
            "be-optional",
            container(
                "main",
                *("sh", "-c", "echo ${WORD-unset}; ls -A /nowhere"),
                envFrom=[{"configMapRef": maybe}, {"secretRef": maybe}],
                env=[
                    {"name": "WORD", "valueFrom": {"secretKeyRef": {**maybe, "key": "word"}}},
                    {
                        "name": "MORE",
                        "valueFrom": {
                            "configMapKeyRef": {
                                "name": "be-scripts",
                                "key": "gone",
                                "optional": True,
                            }
                        },
                    },
                ],
                volumeMounts=[{"name": "nowhere", "mountPath": "/nowhere"}],
            ),
            volumes=[{"name": "nowhere", "configMap": maybe}],
        ),
        pod(
            "be-key",
            container(
                "main",
                "true",
                env=[
                    {
                        "name": "WORD",
                        "valueFrom": {"configMapKeyRef": {"name": "be-scripts", "key": "gone"}},
                    }
                ],
            ),
        ),
    ]


def long_names() -> list[dict[str, Any]]:
    mounts = [{"name": "v" * 63, "mountPath": "/long"}]
    show = f"hostname; cat /long/colour; echo; echo $colour; cat /etc/hosts | grep -c {'a' * 63}"
    return [
        pod(
            LONG,
            container(
                "n" * 63,
                *("sh", "-c", show),
                volumeMounts=mounts,
                envFrom=[{"configMapRef": {"name": LONG_MAP}}],
            ),
            volumes=[{"name": "v" * 63, "configMap": {"name": LONG_MAP}}],
        ),
        pod(DASHED, container("main", "true")),
        pod("be-many", *(container(name, "echo", name) for name in MANY)),
    ]


@pytest.fixture(scope="module")
def beside(lab: Lab) -> Iterator[Bystander]:
    late = ["configmap/be-late", "secret/be-late"]
    lab.kubectl("alice", "delete", "--ignore-not-found", *late)
    encoded = {
        key: base64.b64encode(data).decode()
        for key, data in {"nul": b"a\0b", "bytes": b"\xff\xfe"}.items()
    }
    objects = [
        config_map("be-scripts", run="#!/no/interpreter\n"),
        config_map(LONG_MAP, colour="green"),
        secret("be-bytes", **encoded),
        *(make(engine) for engine in ENGINES for make in (commands, environments)),
        *waiting(),
        *long_names(),
    ]
    with bystander.created(lab, "be-bystander", objects) as found:
        yield found
    lab.kubectl("alice", "delete", "--ignore-not-found", "--wait=false", *late)


def failed_start(lab: Lab, name: str, container: str) -> str:
    """Why a container could not be started."""
    _, content = outcome(lab, name).states[container]
    assert (content["reason"], content["exitCode"]) == ("StartError", 128), content
    return str(content["message"])


def output(lab: Lab, name: str, container: str) -> str:
    """What a container wrote that ended well."""
    _, content = outcome(lab, name).states[container]
    assert content["reason"] == "Completed", content
    return lab.kubectl("alice", "logs", name, "-c", container).stdout


@pytest.mark.claim("B5")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_command_that_cannot_run_says_why(lab: Lab, beside: Bystander, engine: str) -> None:
    name = f"be-commands-{engine}"
    for key, (_, words) in COMMANDS.items():
        assert failed_start(lab, name, key) == words
    wait_for_events(lab, name, *(("Failed", f"Error: {words}") for _, words in COMMANDS.values()))
    for code in BY_A_SHELL:
        _, content = outcome(lab, name).states[f"shell-{code}"]
        assert (content["reason"], content["exitCode"]) == ("Error", int(code))
    assert pods.phase(pods.get(lab, name)) == "Failed"


@pytest.mark.claim("B6")
@pytest.mark.timeout(300)
def test_what_is_missing_may_come_later(lab: Lab, beside: Bystander) -> None:
    names = ["be-late-volume", "be-late-from", "be-late-key", "be-late-second"]
    message = wait_for(lab, "be-late-volume", "main", reason="ContainerCreating")["main"]
    assert message == ('MountVolume.SetUp failed for volume "late": configmap "be-late" not found')
    wait_for_events(lab, "be-late-volume", ("FailedMount", message))
    for name, kind in (("be-late-from", "configmap"), ("be-late-key", "secret")):
        message = wait_for(lab, name, "main", reason="CreateContainerConfigError")["main"]
        assert message == f'{kind} "be-late" not found'
    # No allocation is held for a pod of which nothing can start.
    before = pods.get_all(lab, names)
    assert [pods.job_id(before[name]) for name in names[:3]] == ["", "", ""]
    found = wait_for(lab, "be-late-second", "second", reason="CreateContainerConfigError")
    assert found == {"second": 'configmap "be-late" not found'}
    assert bystander.states(lab, "be-late-second")["first"][0] == "running"
    word = base64.b64encode(b"xyzzy").decode()
    for item in (config_map("be-late", colour="green"), secret("be-late", word=word)):
        lab.kubectl("alice", "create", "-f", "-", input=json.dumps(item))
    says = {"volume": "green", "from": "green\n", "key": "xyzzy\n"}
    for name, text in says.items():
        wait_for(lab, f"be-late-{name}", "main", reason="Completed")
        assert lab.kubectl("alice", "logs", f"be-late-{name}").stdout == text
    wait_for(lab, "be-late-second", "second", reason="Completed")
    logs = lab.kubectl("alice", "logs", "be-late-second", "-c", "second").stdout
    assert logs == "xyzzy green\n"
    after = pods.get_all(lab, names)
    assert [after[name]["metadata"]["uid"] for name in names] == [
        before[name]["metadata"]["uid"] for name in names
    ]


@pytest.mark.claim("B7")
@pytest.mark.timeout(300)
def test_what_is_optional_may_be_absent_and_a_missing_key_is_named(
    lab: Lab, beside: Bystander
) -> None:
    assert output(lab, "be-optional", "main") == "unset\n"
    found = wait_for(lab, "be-key", "main", reason="CreateContainerConfigError")
    assert found["main"] == 'couldn\'t find key gone in configmap "be-scripts"'
    assert pods.job_id(pods.get(lab, "be-key")) == ""


@pytest.mark.claim("B8")
@pytest.mark.timeout(300)
def test_names_of_any_length_and_many_containers_work(lab: Lab, beside: Bystander) -> None:
    assert output(lab, LONG, "n" * 63).split() == ["a" * 63, "green", "green", "1"]
    wait_for_events(lab, DASHED, ("SlurmSubmitted", ""), ("Started", ""))
    assert [content["exitCode"] for _, content in outcome(lab, "be-many").states.values()] == [
        0 for _ in MANY
    ]
    logs = lab.kubectl("alice", "logs", "be-many", "--all-containers", "--max-log-requests=20")
    assert sorted(logs.stdout.split()) == MANY
    done = pods.get(lab, LONG)
    full = f"{done['metadata']['uid'][:8]}/alice/{LONG}"
    rows = pods.until(
        lambda: pods.sacct(lab, pods.job_id(done), "JobName,State"),
        lambda rows: bool(rows) and rows[0][1] == "COMPLETED",
        seconds=60,
        what="the end of the pod with the long name in the accounting",
    )
    # As much as slurmdbd keeps of a name.
    assert rows == [[full[:255], "COMPLETED"]]


@pytest.mark.claim("B9")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_nul_character_cuts_nothing_off(lab: Lab, beside: Bystander, engine: str) -> None:
    name = f"be-env-{engine}"
    assert 'environment variable "WORD" has a NUL character' in failed_start(lab, name, "nul")
    word = failed_start(lab, name, "nul-word")
    assert word.startswith("word 2 of command and args has a NUL character")
    assert REMEDY in word
    assert CANARY not in word
    assert failed_start(lab, name, "nul-path").startswith("workingDir has a NUL character")


@pytest.mark.claim("B10")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ENGINES)
def test_text_reaches_a_container_as_it_is(lab: Lab, beside: Bystander, engine: str) -> None:
    name = f"be-env-{engine}"
    assert output(lab, name, "nasty") == f"<{EXPANDED}><{EXPANDED}>"
    for node in ("ctl", "c1", "c2"):
        assert lab.run(node, ["test", "-e", "/tmp/be"], check=False).returncode == 1


@pytest.mark.claim("B11")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ENGINES)
def test_bytes_that_are_no_text_are_had_as_files(lab: Lab, beside: Bystander, engine: str) -> None:
    name = f"be-env-{engine}"
    assert failed_start(lab, name, "bytes") == (
        f'environment variable "WORD" is not UTF-8 text; {REMEDY}'
    )
    assert output(lab, name, "files") == " ff fe 61 00 62\n"


@pytest.mark.claim("B12")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_value_beyond_the_kernel_s_limit_is_named(
    lab: Lab, beside: Bystander, engine: str
) -> None:
    name = f"be-env-{engine}"
    message = failed_start(lab, name, "big")
    size = 128 * 1024 + len("BIG=") + (len("APPTAINERENV_") if engine == "apptainer" else 0)
    assert message == (
        f'environment variable "BIG" takes {size} bytes, the kernel allows 131071; {REMEDY}'
    )
    word = failed_start(lab, name, "big-word")
    assert word.startswith("word 1 of command and args takes 131072 bytes, the kernel allows")
    assert output(lab, name, "fits") == "131000\n"


@pytest.mark.claim("B13")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_environment_beyond_the_limit_is_told_its_size(
    lab: Lab, beside: Bystander, engine: str
) -> None:
    message = failed_start(lab, f"be-env-{engine}", "total")
    assert message.startswith("command, args and environment take 71")
    room = 1_000_000 if engine == "apptainer" else 6 * 1024 * 1024
    assert f"bytes together, at most {room} fit here; {REMEDY}" in message


@pytest.mark.claim("B14")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ENGINES)
def test_names_of_variables_that_cannot_be_set_are_named(
    lab: Lab, beside: Bystander, engine: str
) -> None:
    bad = pod("be-equals", container("main", "true", env=[value("A=B", "x")]))
    refused = lab.kubectl("alice", "create", "-f", "-", input=json.dumps(bad), check=False)
    assert refused.returncode != 0
    assert "spec.containers[0].env[0].name" in refused.stderr
    assert "other than '='" in refused.stderr
    name = f"be-env-{engine}"
    found = sorted(line for line in output(lab, name, "names").splitlines() if CANARY in line)
    reason = "InvalidEnvironmentVariableNames"
    if engine == "crun":
        assert found == sorted(f"{it}={CANARY}" for it in ("a.b-c", "A B", "9", "UID", "PLAIN"))
        assert reason not in dict(bystander.events(lab, name))
    else:
        assert found == [f"PLAIN={CANARY}"]
        wait_for_events(lab, name, (reason, "apptainer cannot set such names: a.b-c, A B, 9, UID"))


@pytest.mark.claim("B17")
def test_agent_and_others_do_not_notice_environments(lab: Lab, beside: Bystander) -> None:
    assert beside.now() == beside.before
