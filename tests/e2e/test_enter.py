"""srun --k8s-pod: steps in pods, and everyone who must stay out."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e import nodes, pods
from tests.e2e.conftest import Lab

NAME = "enter"
POD = f"--k8s-pod=alice/{NAME}"
JOBS = "/run/slurmlet/jobs"
SCRIPT = "echo from the pod > /marker; trap 'exit 0' TERM; while :; do sleep 1; done"


@pytest.fixture(scope="module")
def pod(lab: Lab) -> Iterator[dict[str, Any]]:
    """A pod of two containers that runs on c1."""
    pods.delete(lab, NAME)
    manifest = pods.manifest(
        NAME,
        "sh",
        "-c",
        SCRIPT,
        annotations={"slurmlet.io/flags": "--exclude=c2"},
        container={
            "env": [{"name": "GREETING", "value": "hi 'there'\nsecond"}],
            "workingDir": "/var",
            "resources": {"requests": {"cpu": "2", "memory": "64Mi"}},
        },
    )
    side = manifest["spec"]["containers"][0] | {"name": "side", "workingDir": "/etc", "env": []}
    manifest["spec"]["containers"].append(side)
    pods.create(lab, manifest)
    lab.kubectl("alice", "wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=100s")
    yield pods.get(lab, NAME)
    pods.delete(lab, NAME)


def srun(lab: Lab, *words: str, user: str = "alice", **variables: str) -> tuple[int, str, str]:
    """Exit status, output and messages of srun on the login node."""
    set_ = [f"{name}={value}" for name, value in variables.items()]
    argv = ["env", *set_, "timeout", "60", "srun", *words]
    done = lab.run("ctl", argv, user=user, check=False, timeout=90)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.claim("J1")
def test_a_step_is_in_the_pod(lab: Lab, pod: dict[str, Any]) -> None:
    code, out, err = srun(lab, POD, "sh", "-c", "hostname; pwd; cat /marker; id -u; ps")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[:4] == [NAME, "/var", "from the pod", "0"]
    processes = [line.split(maxsplit=2) for line in lines[5:]]
    assert processes[0][0] == "1"
    assert "while" in processes[0][2] or "sh" in processes[0][2]


@pytest.mark.claim("J1")
def test_its_environment_is_the_containers_and_slurms(lab: Lab, pod: dict[str, Any]) -> None:
    code, out, err = srun(lab, POD, "env", "-0", MINE="kept", LD_LIBRARY_PATH="/host")
    assert code == 0, err
    found = dict(entry.split("=", 1) for entry in out.split("\0") if entry)
    assert found["GREETING"] == "hi 'there'\nsecond"
    assert found["MINE"] == "kept"
    assert found["SLURM_JOB_ID"] == pods.job_id(pod)
    assert found["PWD"] == "/var"
    assert "LD_LIBRARY_PATH" not in found
    assert not any(name.startswith("SLURMLET_") for name in found)


@pytest.mark.claim("J1")
def test_a_container_can_be_named(lab: Lab, pod: dict[str, Any]) -> None:
    assert srun(lab, f"{POD}:side", "pwd")[:2] == (0, "/etc\n")


@pytest.mark.claim("J2")
def test_sacct_has_the_step_under_the_pods_job(lab: Lab, pod: dict[str, Any]) -> None:
    assert srun(lab, POD, "true")[0] == 0
    job = pods.job_id(pod)
    pods.until(
        lambda: (
            lab.run(
                "ctl", ["timeout", "30", "sacct", "-n", "-P", "-j", job, "-o", "jobname,state"]
            ).stdout
        ),
        lambda out: "true|COMPLETED" in out,
        seconds=30,
        what="the step in sacct",
    )


@pytest.mark.claim("J3")
def test_exit_status_signals_and_input_pass(lab: Lab, pod: dict[str, Any]) -> None:
    assert srun(lab, POD, "sh", "-c", "exit 7")[0] == 7
    assert srun(lab, POD, "sh", "-c", "kill -TERM $$")[0] == 128 + 15
    assert srun(lab, POD, "/no/such")[0] == 127
    argv = ["timeout", "60", "srun", POD, "cat"]
    assert lab.run("ctl", argv, user="alice", input="through").stdout == "through"


@pytest.mark.claim("J3")
def test_a_signal_for_the_step_reaches_the_command(lab: Lab, pod: dict[str, Any]) -> None:
    script = (
        f"timeout 60 srun --job-name=sig {POD} sh -c"
        " 'trap \"echo caught; exit 4\" USR1; echo ready; while :; do sleep 0.1; done'"
        " >sig.out 2>&1 & "
        "timeout 30 sh -c 'until grep -q ready sig.out; do sleep 0.1; done'; "
        f"step=$(squeue -h -s -j {pods.job_id(pod)} -o '%i %j' | sed -n 's/ sig$//p'); "
        'scancel --signal=USR1 "$step"; wait $!; echo "code $?"; cat sig.out'
    )
    out = lab.run("ctl", ["sh", "-c", f"cd; rm -f sig.out; {script}"], user="alice").stdout
    assert "code 4" in out
    assert "caught" in out


@pytest.mark.claim("J3")
def test_several_tasks_and_multi_prog(lab: Lab, pod: dict[str, Any]) -> None:
    code, out, err = srun(lab, "-n2", POD, "sh", "-c", "echo $SLURM_PROCID $(hostname)")
    assert code == 0, err
    assert sorted(out.splitlines()) == [f"0 {NAME}", f"1 {NAME}"]
    text = "cd; printf '0 echo zero\\n1 hostname\\n' >programs; timeout 60 srun -n2 --multi-prog"
    done = lab.run("ctl", ["sh", "-c", f"{text} {POD} programs"], user="alice")
    assert sorted(done.stdout.splitlines()) == [NAME, "zero"]


@pytest.mark.claim("J3")
def test_a_terminal_is_the_containers_own(lab: Lab, pod: dict[str, Any]) -> None:
    script = (
        "import os, pty, sys\n"
        "out = []\n"
        "def read(fd):\n"
        "    data = os.read(fd, 1024)\n"
        "    out.append(data)\n"
        "    return data\n"
        f"code = pty.spawn(['timeout', '--foreground', '60', 'srun', '--pty', '{POD}', 'sh', '-c',"
        " 'tty; exit 9'], read)\n"
        "print('code', os.waitstatus_to_exitcode(code))\n"
    )
    done = lab.run("ctl", ["python3", "-c", script], user="alice", input="")
    assert re.search(r"/dev/pts/\d+", done.stdout), done.stdout
    assert "code 9" in done.stdout


@pytest.mark.claim("J4")
def test_namespaces_can_be_left_out(lab: Lab, pod: dict[str, Any]) -> None:
    script = "hostname; cat /etc/hostname; test -d /proc/$$ && echo own /proc"
    code, out, err = srun(lab, POD, "--k8s-pod-ns=-mnt,-pid", "sh", "-c", script)
    assert code == 0, err
    assert out.splitlines() == [NAME, "c1", "own /proc"]
    assert srun(lab, POD, "--k8s-pod-ns=-uts", "hostname")[1] == "c1\n"


@pytest.mark.claim("J4")
def test_chdir_is_the_pods(lab: Lab, pod: dict[str, Any]) -> None:
    code, out, err = srun(lab, "--chdir=/usr", POD, "pwd")
    assert (code, out, err) == (0, "/usr\n", "")


@pytest.mark.claim("J5")
def test_salloc_sbatch_and_the_variable_lead_there_too(lab: Lab, pod: dict[str, Any]) -> None:
    job = pods.job_id(pod)
    inner = 'echo "$(hostname) $SLURM_JOB_ID"'
    assert srun(lab, "sh", "-c", inner, SLURM_K8S_POD=f"alice/{NAME}")[1] == f"{NAME} {job}\n"
    argv = ["timeout", "60", "salloc", "-n1", POD, "srun", "sh", "-c", inner]
    assert lab.run("ctl", argv, user="alice").stdout == f"{NAME} {job}\n"
    text = f"hostname; srun hostname; srun sh -c '{inner}'"
    script = (
        f"cd; printf '#!/bin/sh\\n%s\\n' \"$1\" >batch; timeout 100 sbatch -W -o b.out {POD} batch"
    )
    lab.run("ctl", ["sh", "-c", script, "sh", text], user="alice", timeout=120)
    out = lab.run("ctl", ["sh", "-c", "cat ~/b.out"], user="alice").stdout.splitlines()
    assert out[0] in ("c1", "c2")
    assert out[1:] == [NAME, f"{NAME} {job}"]


@pytest.mark.claim("J6")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--k8s-pod=alice/nope", "true"], "none of your jobs is pod alice/nope"),
        (["--k8s-pod=alice", "true"], "--k8s-pod=alice: give NAMESPACE/POD"),
        ([f"{POD}:nope", "true"], "the pod has no running container nope"),
        ([POD, "--k8s-pod-ns=x", "true"], "--k8s-pod-ns=x: list what to leave out"),
        ([POD, "--bcast", "true"], "--k8s-pod cannot be used together with --bcast"),
        ([POD, "--container=/x", "true"], "--k8s-pod cannot be used together with --container"),
        ([POD, "-w", "c2", "true"], "Requested node configuration is not available"),
        ([POD], "No command given to execute"),
    ],
)
def test_what_cannot_be_is_told(
    lab: Lab, pod: dict[str, Any], words: list[str], message: str
) -> None:
    code, out, err = srun(lab, *words)
    assert code != 0
    assert message in err
    assert out == ""


@pytest.mark.claim("J6")
def test_the_job_of_another_pod_is_refused(lab: Lab, pod: dict[str, Any]) -> None:
    code, _, err = srun(lab, f"--jobid={pods.job_id(pod)}", "--k8s-pod=alice/other", "true")
    assert code == 125
    assert "slurmlet-enter: alice/other: this job runs another pod" in err


@pytest.mark.disruptive
@pytest.mark.claim("J7")
@pytest.mark.parametrize("words", [["sh", "-c", "echo on the host"], ["--multi-prog", "programs"]])
def test_without_the_plugin_on_the_node_nothing_runs(
    lab: Lab, pod: dict[str, Any], words: list[str]
) -> None:
    line = "/etc/slurm/plugstack.conf.d/zz-slurmlet.conf"
    lab.run("ctl", ["sh", "-c", "cd; echo '* echo on the host' >programs"], user="alice")
    lab.run("c1", ["mv", line, "/root/kept"])
    try:
        options = [word for word in words if word.startswith("--")]
        argv = ["sh", "-c", 'cd; exec timeout 60 srun "$@"', "sh", POD, *options]
        argv += [word for word in words if word not in options]
        done = lab.run("ctl", argv, user="alice", check=False)
    finally:
        lab.run("c1", ["mv", "/root/kept", line])
    assert done.returncode != 0
    assert "/slurmlet-is-missing-on-this-node: No such file or directory" in done.stderr
    assert "on the host" not in done.stdout


@pytest.mark.claim("H1")
def test_bob_cannot_enter_by_name_job_or_variables(lab: Lab, pod: dict[str, Any]) -> None:
    job = pods.job_id(pod)
    code, out, err = srun(lab, POD, "true", user="bob")
    assert code != 0
    # Jobs of bob's own that he called so are over.
    assert "none of your jobs is pod" in err or "is not running" in err
    for words, variables in (
        ([f"--jobid={job}", POD], {}),
        ([f"--jobid={job}", "--overlap"], {}),
        ([POD], {"SLURM_JOB_ID": job, "SLURMLET_SRUN": "plain", "SLURM_OVERLAP": "1"}),
        (["--overlap"], {"SLURM_JOB_ID": job, "SLURM_K8S_POD": f"alice/{NAME}"}),
    ):
        code, out, err = srun(lab, *words, "id", user="bob", **variables)
        assert code != 0, words
        assert out == ""
        assert "Access/permission denied" in err or "none of your jobs" in err
    assert nodes.usable(lab)


@pytest.mark.claim("H1")
def test_bob_on_the_node_is_refused_by_the_kernel(lab: Lab, pod: dict[str, Any]) -> None:
    """From a job of his own on the pod's node, under the pod's job name, by every path."""
    root = f"{JOBS}/{pods.job_id(pod)}"
    enter = "/opt/slurmlet/current/bin/slurmlet-enter"
    script = f"""
        srun {POD} id
        {enter} --job={pods.job_id(pod)} --pod=alice/{NAME} -- id
        {enter} --job={pods.job_id(pod)} --anchor </dev/null
        nsenter --user={root}/ns/user id
        nsenter --ipc={root}/ns/ipc id
        ls {root}/pod
        touch {root}/record.json {root}/x
        umount {root}/ns/user
        ln -s {root} /run/slurmlet/jobs/$SLURM_JOB_ID
    """
    argv = [
        *("timeout", "60", "srun", "-w", "c1", "-J", f"0123abcd/alice/{NAME}"),
        *("sh", "-c", script),
    ]
    done = lab.run("ctl", argv, user="bob", check=False)
    assert "uid=" not in done.stdout
    assert "is another user's" in done.stderr
    assert done.stderr.count("Operation not permitted") >= 2
    assert done.stderr.count("ermission denied") >= 3
    assert "must be superuser" in done.stderr
    assert nodes.usable(lab)


@pytest.mark.claim("H2")
def test_alices_forged_hint_leads_nowhere_but_into_her_own_pod(
    lab: Lab, pod: dict[str, Any]
) -> None:
    """What she writes into her pod's directory names init, bob's process, a FIFO, a huge file."""
    hints = f"{JOBS}/{pods.job_id(pod)}/pod"

    def step(forge: str) -> str:
        inner = f"cd {hints} && cp containers.json kept && {{ {forge}; }}"
        lab.run("c1", ["sh", "-c", inner], user="alice")
        try:
            code, out, err = srun(lab, POD, "id")
        finally:
            lab.run(
                "c1", ["sh", "-c", f"cd {hints}; rm -rf containers.json; mv kept containers.json"]
            )
            lab.run("c1", ["chown", "alice:", f"{hints}/containers.json"])
        assert code == 125, out
        assert out == ""
        return err

    start = lab.run("c1", ["sh", "-c", "cut -d' ' -f22 /proc/1/stat"]).stdout.strip()
    to_init = (
        "python3 -c \"import json; d = json.load(open('kept'));"
        f" d['containers']['main'].update(pid=1, start={start});"
        " json.dump(d, open('containers.json', 'w'))\""
    )
    assert "the container" in step(to_init)
    assert step("rm containers.json; mkfifo containers.json")
    assert "symbolic links" in step("ln -sf /etc/shadow containers.json")
    huge = "rm -f containers.json; truncate -s 2M containers.json"
    assert "File too large" in step(huge)


@pytest.mark.claim("S1")
def test_the_record_is_roots_and_the_credential_the_agents(lab: Lab, pod: dict[str, Any]) -> None:
    root = f"{JOBS}/{pods.job_id(pod)}"
    record = json.loads(lab.run("c1", ["cat", f"{root}/record.json"]).stdout)
    assert record["job"] == int(pods.job_id(pod))
    assert record["podUID"] == pod["metadata"]["uid"]
    owner = lab.run("c1", ["stat", "-c", "%U %a", f"{root}/record.json"]).stdout.split()
    assert owner == ["root", "644"]
    signed = lab.run("c1", ["cat", f"{root}/record.munge"]).stdout
    argv = ["unmunge", "--keys=UID,STATUS", "--numeric"]
    for user, good in (("slurmlet", True), ("bob", False)):
        as_user = ["setpriv", f"--reuid={user}", "--clear-groups", *argv]
        done = lab.run("ctl", as_user, input=signed, check=False)
        assert ('"host": "c1"' in done.stdout) is good, user


@pytest.mark.claim("S2")
def test_only_pods_get_a_sandbox_and_nothing_of_it_stays(lab: Lab, pod: dict[str, Any]) -> None:
    name = "enter-brief"
    pods.delete(lab, name)
    pods.create(lab, pods.manifest(name, "true", annotations={"slurmlet.io/flags": "--exclude=c2"}))
    ended = pods.wait_for_phase(lab, name, "Succeeded")
    job = pods.job_id(ended)
    pods.delete(lab, name)
    pods.until(
        lambda: lab.run("c1", ["sh", "-c", f"ls {JOBS}; grep -c {JOBS}/{job}/ /proc/mounts"],
                        check=False).stdout.split(),
        lambda out: job not in out and out[-1] == "0",
        seconds=30,
        what="the sandbox's end",
    )  # fmt: skip
    argv = ["timeout", "60", "srun", "-w", "c1", "--k8s-sandbox=host", "sh", "-c",
            f"cat {JOBS}/$SLURM_JOB_ID/record.json"]  # fmt: skip
    record = json.loads(lab.run("ctl", argv, user="bob").stdout)
    assert record["error"].startswith("this site makes sandboxes for pods only")
    assert record["namespaces"] == {}
    plain = lab.run("ctl", [*argv[:5], "sh", "-c", f"ls {JOBS}/$SLURM_JOB_ID"], user="bob",
                    check=False)  # fmt: skip
    assert "No such file" in plain.stderr


@pytest.mark.claim("S3")
@pytest.mark.skipif(os.environ.get("SLURMLET_QUICK") == "1", reason="asked for the quick ones")
def test_a_sandbox_is_made_once_and_removed_once(lab: Lab) -> None:
    """make twice is make, remove twice is remove, and a killed make is repaired."""
    python = "/opt/slurmlet/current/bin/python -I -m slurmlet.spank"
    root = f"{JOBS}/4000000000"
    credential = 'printf \'{"version":1,"uid":2001,"podUID":"u","mode":"host"}\' | munge'
    make = f"{credential} | {python} make --job=4000000000 --uid=2001 --gid=2001"
    script = f"""set -eu
        {make}; one=$(stat -c %i {root}/ns/user {root}/record.json)
        {make}; test "$one" = "$(stat -c %i {root}/ns/user {root}/record.json)"
        rm {root}/record.json; {make}; test "$one" != "$(stat -c %i {root}/ns/user)"
        touch {root}/removed; {python} garbage; test ! -e {root}
        {make}; {python} remove --job=4000000000; {python} remove --job=4000000000
        test ! -e {root}; ! grep {root} /proc/mounts
    """
    lab.run("c1", ["sh", "-c", script])
