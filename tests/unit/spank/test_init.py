"""The first process of a container, as `slurmlet-enter --init` is one in a PID namespace."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ENTER = Path(sys.executable).parent / "slurmlet-enter"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
SECONDS = 20


def namespaces_work() -> bool:
    done = subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=SECONDS, check=False)
    return done.returncode == 0


pytestmark = pytest.mark.skipif(
    not namespaces_work(), reason="this machine allows no user namespaces"
)


def run(*command: str, options: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*NAMESPACE, ENTER, "--init", *options, "--", *command],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143), ("kill -6 $$", 134)],
)
def test_it_ends_as_the_application_ends(script: str, code: int) -> None:
    assert run("sh", "-c", script).returncode == code


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nope", 127, 'exec: "nope": executable file not found in $PATH'),
        ("", 127, 'exec: "": executable file not found in $PATH'),
        ("/no/such", 127, 'exec: "/no/such": No such file or directory'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": Permission denied'),
        ("/", 126, 'exec: "/": Permission denied'),
    ],
)
def test_what_cannot_run_is_told_on_the_descriptor_for_it(
    command: str, code: int, text: str
) -> None:
    done = run(command, options=["--failure=1"])
    assert (done.returncode, done.stdout, done.stderr) == (code, text, "")


def test_a_text_without_interpreter_is_no_program(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo no\n")
    script.chmod(0o755)
    done = run(str(script), options=["--failure=1"])
    assert (done.returncode, done.stdout) == (126, f'exec: "{script}": Exec format error')


def test_the_application_has_no_descriptor_of_ours() -> None:
    done = run("sh", "-c", "ls /proc/$$/fd", options=["--failure=2"])
    assert done.stdout.split() == ["0", "1"]


def test_orphans_are_reaped() -> None:
    script = (
        "(sleep 0.1 & echo $!) >orphan; until test -s orphan; do :; done; "
        "n=0; while test -e /proc/$(cat orphan) && test $n -lt 200; do sleep 0.05; n=$((n+1)); done"
        "; test ! -e /proc/$(cat orphan) && echo reaped; rm orphan"
    )
    directory = f"cd $(mktemp -d) && {script}"
    assert run("sh", "-c", directory).stdout == "reaped\n"


def test_signals_reach_the_application_and_its_default_action_holds() -> None:
    for handler, code in (("trap 'exit 5' TERM;", 5), ("", 143)):
        process = subprocess.Popen(
            [*NAMESPACE, ENTER, "--init", "--", "sh", "-c", f"{handler} echo up; read x"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdout
            process.stdout.readline()
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            os.kill(int(children), signal.SIGTERM)
            assert process.wait(SECONDS) == code


def test_all_ends_with_the_application() -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        [*NAMESPACE, ENTER, "--init", "--", "sh", "-c", "trap '' TERM; setsid sleep 60 & exit 0"],
        pass_fds=[write],
    )
    os.close(write)
    with process, os.fdopen(read, "rb") as pipe:
        assert process.wait(SECONDS) == 0
        # The last of them had the other end.
        assert pipe.read() == b""


@pytest.mark.parametrize(
    "words",
    [
        ["--init"],
        ["--init", "--job=1", "--", "true"],
        ["--init", "--failure=x", "--", "true"],
        ["--init", "--failure=99", "--", "true"],
        ["--job=1", "--anchor", "--failure=3"],
        ["--job=1", "--pod=a/b", "--failure=3", "--", "true"],
    ],
)
def test_nonsense_is_refused(words: list[str]) -> None:
    done = subprocess.run([ENTER, *words], capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 125
    assert done.stderr
