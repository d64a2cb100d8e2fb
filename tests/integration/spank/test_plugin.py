"""The shipped plugin in a stand-in for Slurm's programs, hook after hook as Slurm calls them."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import SANITIZED, SECONDS, tool

GUARD = "/slurmlet-is-missing-on-this-node"


@dataclass(frozen=True, slots=True)
class Slurm:
    """`run` returns what the stand-in said, by the first word of each line."""

    host: Path
    plugin: Path

    def run(
        self, program: str, *words: str, code: int | None = 0, **variables: str
    ) -> dict[str, list[str]]:
        done = subprocess.run(
            [program, *words],
            executable=self.host,
            env={
                "HOST_PROGRAM": program,
                "HOST_PLUGIN": str(self.plugin),
                # A client ends or becomes another program; what it holds then is no leak.
                "ASAN_OPTIONS": "detect_leaks=0",
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        said: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            word, _, rest = line.partition(" ")
            said.setdefault(word, []).append(rest)
        return said


@pytest.fixture(scope="module", params=["shipped", "sanitized"])
def slurm(
    request: pytest.FixtureRequest, include: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Slurm]:
    """Each release's plugin in that release's host."""
    build, gate = tool("build"), tool("gate")
    work = tmp_path_factory.mktemp("spank")
    plugin = work / "slurmlet_spank.so"
    if request.param == "shipped":
        host = gate.host(work / "host", include=include)
        yield Slurm(host, build.plugin(plugin, include=include))
        return
    host = gate.host(work / "host", include=include, flags=SANITIZED)
    with gate.slurm_headers(include) as only:
        subprocess.run(
            [*("cc", "-std=gnu11", "-D_GNU_SOURCE", "-shared", "-fPIC", *SANITIZED), "-isystem",
             str(only), *build.plugin_sources(), "-o", str(plugin)],
            check=True,
            timeout=SECONDS,
        )  # fmt: skip
    yield Slurm(host, plugin)


JOBS = "0123abcd/alice/web=7:1,0123abcd/alice/web=9:1,0123abcd/alice/web=11:3,x=13:1"


def test_srun_starts_anew_in_the_newest_running_job(slurm: Slurm) -> None:
    said = slurm.run("srun", "-n2", "--k8s-pod=alice/web", "sh", "-c", "true", HOST_JOBS=JOBS)
    assert said["word"] == [
        "srun", "--k8s-pod=alice/web", "--job-name=sh", "-n2", "--k8s-pod=alice/web",
        GUARD, "sh", "-c", "true",
    ]  # fmt: skip
    assert {"SLURM_JOB_ID=9", "SLURM_OVERLAP=1"} <= set(said["variable"])
    assert not any(entry.startswith("SLURMLET_") for entry in said["variable"])
    assert "error" not in said


def test_a_plain_srun_is_left_alone(slurm: Slurm) -> None:
    said = slurm.run("srun", "-n2", "hostname", SLURM_JOB_ID="3")
    assert said["word"] == ["srun", "-n2", "hostname"]
    assert "SLURM_JOB_ID=3" in said["variable"]
    assert "error" not in said


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ("x=1:1", "slurmlet: none of your jobs is pod alice/web"),
        ("0123abcd/alice/web=7:0", "slurmlet: pod alice/web is not running: its job 7 is pending"),
        ("0123abcd/alice/web=7:3", "slurmlet: pod alice/web is not running: its job 7 is over"),
    ],
)
def test_a_pod_that_does_not_run_ends_srun(slurm: Slurm, jobs: str, message: str) -> None:
    said = slurm.run("srun", "--k8s-pod=alice/web", "hostname", HOST_JOBS=jobs, code=1)
    assert said == {"asked": ["slurmctld"], "error": [message]}


def test_a_silent_slurmctld_ends_srun(slurm: Slurm) -> None:
    said = slurm.run("srun", "--k8s-pod=alice/web", "hostname", code=1)
    assert said["error"][0].startswith("slurmlet: cannot ask Slurm for your jobs: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--k8s-pod=web", "x"], "slurmlet: --k8s-pod=web: give NAMESPACE/POD or"),
        (["--k8s-pod=a/b", "--k8s-pod-ns=net", "x"], "slurmlet: --k8s-pod-ns=net: list what"),
        (["--k8s-sandbox=x", "x"], "slurmlet: --k8s-sandbox: give net or host"),
        (["--k8s-pod=alice/web"], "slurmlet: --k8s-pod: say what to run in the pod"),
        (["--k8s-pod=alice/web", "-D", "pod", "x"], "slurmlet: --chdir=pod: give an absolute path"),
        (["--k8s-pod=alice/web", "x", ":", "y"], "slurmlet: --k8s-pod cannot be used together"),
    ],
)
def test_what_is_wrong_ends_srun(slurm: Slurm, words: Sequence[str], message: str) -> None:
    said = slurm.run("srun", *words, HOST_JOBS=JOBS, code=1)
    assert said["error"][0].startswith(message)
    assert "word" not in said


def test_the_variable_stands_for_the_option(slurm: Slurm) -> None:
    said = slurm.run("srun", "hostname", HOST_JOBS=JOBS, SLURM_K8S_POD="alice/web:main")
    assert said["word"][1] == "--k8s-pod=alice/web:main"
    assert said["command"] == [GUARD, "hostname"]


def test_jobid_skips_the_search(slurm: Slurm) -> None:
    said = slurm.run("srun", "--jobid=5", "--k8s-pod=alice/web", "x", HOST_JOBS="y=1:1")
    assert said["command"] == [GUARD, "x"]
    assert not any(entry.startswith("SLURM_JOB_ID") for entry in said["variable"])
    assert "asked" not in said


def test_a_forged_second_srun_ends(slurm: Slurm) -> None:
    said = slurm.run(
        "srun", "--k8s-pod=alice/web", "x", HOST_JOBS=JOBS, SLURMLET_SRUN="plain", code=1
    )
    assert said["error"] == ["slurmlet: srun was not started anew inside the pod's job"]


def test_programs_of_multi_prog_are_guarded(slurm: Slurm, tmp_path: Path) -> None:
    config = tmp_path / "programs"
    config.write_text("0 hostname\n")
    said = slurm.run("srun", "--multi-prog", "--k8s-pod=alice/web", str(config), HOST_JOBS=JOBS)
    assert said["command"][0].startswith("/proc/self/fd/")
    missing = slurm.run(
        "srun", "--multi-prog", "--k8s-pod=alice/web", "/nowhere", HOST_JOBS=JOBS, code=1
    )
    assert missing["error"] == ["slurmlet: /nowhere: No such file or directory"]


def test_another_jobs_variables_do_not_come_along(slurm: Slurm) -> None:
    said = slurm.run(
        "srun", "--k8s-pod=alice/web", "x", HOST_JOBS=JOBS, SLURM_JOB_ID="3", SLURM_NTASKS="8"
    )
    assert not any(entry.startswith("SLURM_NTASKS") for entry in said["variable"])
    inside = slurm.run(
        "srun", "--k8s-pod=alice/web", "x", HOST_JOBS=JOBS, SLURM_JOB_ID="9", SLURM_NTASKS="8"
    )
    assert "SLURM_NTASKS=8" in inside["variable"]


def test_sbatch_passes_the_pod_to_its_sruns_and_the_credential_to_the_prolog(slurm: Slurm) -> None:
    said = slurm.run("sbatch", "--k8s-pod=alice/web", "x", SLURMLET_CREDENTIAL="MUNGE:x:")
    assert "SLURM_K8S_POD=alice/web" in said["variable"]
    assert said["job-control"] == ["SLURMLET_CREDENTIAL=MUNGE:x:"]
    assert not any(entry.startswith("SLURMLET_CREDENTIAL") for entry in said["variable"])


def test_a_task_enters_before_its_command(slurm: Slurm) -> None:
    said = slurm.run(
        "task", "--k8s-pod=alice/web:main", "--k8s-pod-ns=-net", GUARD, "x",
        SLURM_K8S_DIRECTORY="/srv",
    )  # fmt: skip
    assert said["prepended"] == [
        "/opt/slurmlet/current/bin/slurmlet-enter", "--job=12", "--pod=alice/web:main",
        "--ns=-net", "--directory=/srv", "--",
    ]  # fmt: skip


@pytest.mark.parametrize("step", ["0xfffffffb", "0xfffffffa", "0xfffffffc"])
def test_scripts_stay_on_the_host(slurm: Slurm, step: str) -> None:
    said = slurm.run("task", "--k8s-pod=alice/web", "script", HOST_STEP=step)
    assert "prepended" not in said
    assert said["runs"] == ["script"]


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["--k8s-pod=web"], {}),
        (["--k8s-pod=alice/web", "--k8s-pod-ns=x"], {}),
        (["--k8s-pod=alice/web"], {"HOST_NO_PREPEND": "1"}),
        (["--k8s-pod=alice/web"], {"SLURM_CONTAINER": "/bundle"}),
        (["--k8s-pod=alice/web"], {"SLURM_K8S_POD_NS": "x"}),
    ],
)
def test_a_task_that_cannot_enter_ends(
    slurm: Slurm, words: Sequence[str], variables: dict[str, str]
) -> None:
    said = slurm.run("task", *words, "x", code=1, **variables)
    assert said["error"]
    assert "runs" not in said


def test_a_plain_task_runs_as_it_is(slurm: Slurm) -> None:
    assert slurm.run("task", "x") == {"runs": ["x"], "end": ["0"]}


@pytest.mark.parametrize("program", ["prolog", "epilog"])
def test_prolog_and_epilog_of_a_plain_job_do_nothing(slurm: Slurm, program: str) -> None:
    assert slurm.run(program) == {"end": ["0"]}


@pytest.mark.skipif(
    Path("/opt/slurmlet/current").exists(), reason="slurmlet is installed on this machine"
)
@pytest.mark.parametrize(
    "variables",
    [{"SPANK_SLURMLET_CREDENTIAL": "MUNGE:x:", "LD_PRELOAD_": "x"}, {"HOST_SANDBOX": "host"}],
)
def test_a_helper_that_cannot_run_fails_no_prolog(slurm: Slurm, variables: dict[str, str]) -> None:
    said = slurm.run("prolog", code=0, **variables)
    assert said["end"] == ["0"]
    assert said["error"][0].startswith("slurmlet: slurmlet-sandbox make: ")


# A node of its own: /run is empty, and process 1 has the namespaces of all others.
NODE = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc")
CONTAIN = "0x4"


def on_a_node(slurm: Slurm, script: str, **variables: str) -> str:
    """What a shell script on a fresh node says; slurmd and the like are functions in it."""
    functions = "".join(
        f"{program}() {{ HOST_PROGRAM={program} {slurm.host}; }}\n"
        for program in ("slurmd", "prolog", "epilog")
    )
    done = subprocess.run(
        [*NODE, "sh", "-c", f"mount -t tmpfs tmpfs /run\n{functions}{script}"],
        env={
            "PATH": os.environ["PATH"],
            "HOST_PLUGIN": str(slurm.plugin),
            "ASAN_OPTIONS": "detect_leaks=0",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"HOST_PROLOG_FLAGS": "0"}, "PrologFlags lacks Alloc or Contain"),
        ({"HOST_PROLOG_FLAGS": "0x4", "HOST_NAMESPACES": "a/tmpfs"}, "hide the host's mounts"),
    ],
)
def test_what_is_in_the_way_is_said_when_slurmd_starts(
    slurm: Slurm, variables: dict[str, str], message: str
) -> None:
    script = "slurmd; cat /run/slurmlet/disabled; echo; SPANK_SLURMLET_CREDENTIAL=x prolog"
    started, _, why, prolog = on_a_node(slurm, script, **variables).splitlines()
    assert started.startswith("error slurmlet: no pod sandboxes on this node: ")
    assert message in started
    assert message in why
    assert prolog == "end 0", "the prolog starts nothing where no sandbox can be made"


def test_slurmd_must_be_in_the_namespaces_of_process_1(slurm: Slurm) -> None:
    script = "unshare --uts sh -c 'HOST_PROGRAM=slurmd exec $0' " + str(slurm.host)
    said = on_a_node(slurm, script, HOST_PROLOG_FLAGS=CONTAIN)
    assert "slurmd is not in the uts namespace of process 1" in said


HELPER = """#!/bin/sh
{ for word; do echo "word $word"; done
  echo "credential $(cat)"
  sed -n 's/^Max \\(.\\{21\\}\\) \\([^ ]*\\) .*/limit \\2 \\1/p' /proc/self/limits
  for entry in $(tr '\\0' '\\n' </proc/$$/environ); do echo "variable $entry"; done
  for fd in /proc/$$/fd/*; do echo "descriptor ${fd##*/}"; done; } >/run/helper
"""


MODULE = ("-I", "-m", "slurmlet.spank")


def installed(tmp_path: Path) -> str:
    """A script that installs a helper, which writes into /run/helper how it was started."""
    helper = tmp_path / "helper"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    place = "/opt/slurmlet/current/bin"
    return f"mount -t tmpfs tmpfs /opt; mkdir -p {place}; cp {helper} {place}/python; "


def test_the_helper_gets_a_world_of_its_own(slurm: Slurm, tmp_path: Path) -> None:
    """Nothing of the job reaches it but its credential, and its limits leave CNI plugins room."""
    script = (
        f"{installed(tmp_path)}export SPANK_SLURMLET_CREDENTIAL=MUNGE:x: SPANK_LD_PRELOAD=/x.so;"
        "export PYTHONPATH=/evil BASH_ENV=/evil ENV=/evil; ulimit -c unlimited;"
        "exec 7</dev/null; prolog; cat /run/helper"
    )
    said: dict[str, list[str]] = {}
    for line in on_a_node(slurm, script, HOST_PROLOG_FLAGS=CONTAIN).splitlines():
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest)
    assert said["word"][:4] == [*MODULE, "make"]
    assert said["credential"] == ["MUNGE:x:"]
    assert said["variable"] == ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
    # The shell that stands for the helper lists the directory through 3, and has its script open.
    assert [each for each in said["descriptor"] if each in "3456789"] == ["3"]
    limits = {each.strip() for each in said["limit"]}
    assert {"0 core file size", "1073741824 data size", "unlimited address space"} <= limits


def test_a_node_that_is_in_order_is_tidied_when_slurmd_starts(slurm: Slurm, tmp_path: Path) -> None:
    script = (
        f"{installed(tmp_path)}mkdir /run/slurmlet; echo old >/run/slurmlet/disabled; slurmd;"
        "ls /run/slurmlet; grep ^word /run/helper"
    )
    said = on_a_node(slurm, script, HOST_PROLOG_FLAGS=CONTAIN).splitlines()
    assert said == ["end 0", *(f"word {word}" for word in (*MODULE, "garbage"))]
