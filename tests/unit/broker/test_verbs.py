"""The verbs, carried out in a real child by fake Slurm commands."""

import dataclasses
import os
from pathlib import Path

import pytest

from slurmlet.broker.config import Settings
from slurmlet.broker.verbs import answer
from slurmlet.contracts.brokerproto import Answer, Cancel, ReadLog, RefusedError, Request, Submit
from slurmlet.contracts.names import JOB_SCRIPT

from .conftest import TOKEN, UID, Site

SUBMIT = Submit(
    namespace="alice",
    pod="web",
    uid=UID,
    attempt=2,
    options={"partition": "debug", "mem": "100M"},
    agent="10.77.0.1:10260",
    token=TOKEN,
    grace_seconds=7,
)


def ask(site: Site, request: Request, settings: Settings | None = None) -> tuple[Answer, bytes]:
    return answer(request, settings=settings or site.settings, find=site.find, load=site.load)


def test_sbatch_gets_argv_environment_and_script_and_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "evil")
    out = Path(site.account.home)
    site.command(
        "sbatch",
        f"""exec 2>&1
        for word; do printf '%s\\n' "$word"; done > '{out}/argv'
        env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort > '{out}/env'
        cat > '{out}/script'
        (umask; pwd; id -u; id -g; id -G; ls /proc/self/fd | wc -l) > '{out}/facts'
        echo 'site banner'; echo '4711;lab'""",
    )
    assert ask(site, SUBMIT) == (Answer(job_id=4711), b"")
    argv = (out / "argv").read_text().splitlines()
    assert "--partition=debug" in argv
    assert "--mem=100M" in argv
    assert f"--job-name={UID[:8]}/alice/web" in argv
    assert f"--comment=slurmlet:lab:alice/web:{UID}:2" in argv
    assert "--signal=B:USR1@7" in argv
    # A % of the home directory is not taken for one of sbatch's fields.
    boot = f"{site.account.home}/.slurmlet/lab/boot"
    assert f"--output={boot.replace('%', '%%')}/%j.boot" in argv
    assert not any(TOKEN in word for word in argv)
    assert (out / "env").read_text().splitlines() == [
        f"HOME={site.account.home}",
        "LANG=C.UTF-8",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "SLURMLET_AGENT=10.77.0.1:10260",
        f"SLURMLET_POD_UID={UID}",
        f"SLURMLET_TOKEN={TOKEN}",
        "USER=alice",
    ]
    assert (out / "script").read_text() == JOB_SCRIPT
    uid, gid = str(site.account.uid), str(site.account.gid)
    groups = " ".join(str(group) for group in site.account.groups)
    facts = (out / "facts").read_text().splitlines()
    assert facts[:4] == ["0077", "/", uid, gid]
    assert set(facts[4].split()) == set(groups.split()) | {gid}
    # 0, 1, 2 and the one with which ls reads the directory.
    assert facts[5] == "4"
    assert Path(boot).stat().st_mode & 0o777 == 0o700
    assert Path(boot).stat().st_uid == site.account.uid


def test_a_partition_that_the_map_lacks_is_refused_before_sbatch(site: Site) -> None:
    site.command("sbatch", f"touch {site.directory}/called; echo 1")
    request = dataclasses.replace(SUBMIT, options={"partition": "cpu,gpu"})
    with pytest.raises(RefusedError, match="partition 'cpu,gpu' is not permitted"):
        ask(site, request)
    assert not (site.directory / "called").exists()


def test_what_the_map_restricts_is_always_said_to_slurm(site: Site) -> None:
    site.command("sbatch", f"printf '%s\\n' \"$@\" > '{site.account.home}/argv'; echo 1")
    ask(site, dataclasses.replace(SUBMIT, options={}))
    assert "--partition=cpu" in (Path(site.account.home) / "argv").read_text().splitlines()


def test_an_unmapped_namespace_is_refused(site: Site) -> None:
    with pytest.raises(RefusedError, match="'bob' is not mapped"):
        ask(site, Cancel(namespace="bob", job_id=1))


@pytest.mark.parametrize(
    ("squeue", "done"),
    [
        ("alice|slurmlet:lab:gone/web:{uid}:1", True),
        ("alice|slurmlet:lab:bob/web:{uid}:1", False),
        ("alice|slurmlet:other:gone/web:{uid}:1", False),
        ("alice|mine\nalice|slurmlet:lab:gone/web:{uid}:1", False),
        ("carol|slurmlet:lab:gone/web:{uid}:1", False),
        ("", False),
    ],
)
def test_a_pod_s_job_from_before_the_map_was_changed_ends_as_its_user(
    site: Site, squeue: str, done: bool
) -> None:
    called = Path(site.account.home) / "called"
    site.command("scancel", f"id -u > '{called}'")
    site.command("squeue", f"test \"$2\" = --jobs=7 && echo '{squeue.format(uid=UID)}'")
    request = Cancel(namespace="gone", job_id=7)
    if not done:
        with pytest.raises(RefusedError, match="'gone' is not mapped"):
            ask(site, request)
        assert not called.exists()
        return
    assert ask(site, request)[0] == Answer()
    assert called.read_text().strip() == str(site.account.uid)


def test_what_slurm_denies_stays_denied_for_jobs_that_are_no_pod_s(site: Site) -> None:
    site.command("scancel", "echo 'scancel: error: Access/permission denied' >&2; exit 1")
    site.command("squeue", "echo 'bob|his own'")
    reply, _ = ask(site, Cancel(namespace="alice", job_id=7))
    assert reply == Answer(error="Access/permission denied")


def test_a_hanging_sbatch_is_killed_and_may_be_retried(site: Site) -> None:
    site.command("sbatch", f"echo $$ > '{site.account.home}/pid'; sleep 60 & wait")
    broker = dataclasses.replace(site.settings.broker, submit_timeout=0.5)
    settings = dataclasses.replace(site.settings, broker=broker)
    reply, _ = ask(site, SUBMIT, settings)
    assert reply == Answer(error="sbatch did not answer in time", retry=True)
    pid = int((Path(site.account.home) / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_token_is_kept_out_of_errors(site: Site) -> None:
    site.command("sbatch", 'echo "sbatch: error: bad $SLURMLET_TOKEN" >&2; exit 1')
    reply, _ = ask(site, SUBMIT)
    assert reply.error == "bad ***"


def test_a_home_that_cannot_be_written_is_told(site: Site) -> None:
    site.command("sbatch", "echo 1")
    account = dataclasses.replace(site.account, home="/proc/nothing")
    reply, _ = answer(SUBMIT, settings=site.settings, find=lambda _: account, load=site.load)
    assert reply.job_id is None
    assert "/proc/nothing" in str(reply.error)


def test_scancel_gets_the_job_and_its_complaint_comes_back(site: Site) -> None:
    site.command(
        "scancel",
        'echo "scancel: error: Kill job error on job id $1: Access/permission denied" >&2; exit 1',
    )
    reply, _ = ask(site, Cancel(namespace="alice", job_id=12))
    assert reply == Answer(error="Access/permission denied", retry=False)


def test_cancelling_a_job_that_is_gone_succeeds(site: Site) -> None:
    site.command(
        "scancel",
        'echo "scancel: error: Kill job error on job id $1: Invalid job id specified" >&2; exit 1',
    )
    assert ask(site, Cancel(namespace="alice", job_id=12))[0] == Answer()


def pod_dir(site: Site) -> Path:
    path = Path(site.account.home) / f".slurmlet/lab/pods/{UID}"
    path.mkdir(parents=True)
    own(site, path.parents[2], path.parents[1], path.parent, path)
    return path


def own(site: Site, *paths: Path) -> None:
    for path in paths:
        os.chown(path, site.account.uid, site.account.gid, follow_symlinks=False)


def test_a_slice_of_a_log_and_its_total(site: Site) -> None:
    pod = pod_dir(site)
    (pod / "main").mkdir()
    (pod / "main/0.log").write_bytes(b"0123456789")
    own(site, pod / "main", pod / "main/0.log")
    request = ReadLog(namespace="alice", uid=UID, file="main/0.log", offset=2, limit=3)
    assert ask(site, request) == (Answer(size=3, total=10), b"234")
    beyond = dataclasses.replace(request, offset=50)
    assert ask(site, beyond) == (Answer(size=0, total=10), b"")


@pytest.mark.parametrize(("offset", "limit"), [(0, 12), (0, 4), (2, 3), (3, 9), (9, 1), (4, 5)])
def test_the_files_of_a_log_are_one(site: Site, offset: int, limit: int) -> None:
    pod = pod_dir(site)
    (pod / "main").mkdir()
    parts = {"0.log.2": b"0123", "0.log.1": b"45678", "0.log": b"9"}
    for name, content in parts.items():
        (pod / "main" / name).write_bytes(content)
    own(site, pod / "main", *(pod / "main").iterdir())
    request = ReadLog(namespace="alice", uid=UID, file="main/0.log", offset=offset, limit=limit)
    wanted = b"0123456789"[offset : offset + limit]
    assert ask(site, request) == (Answer(size=len(wanted), total=10), wanted)


def test_a_megabyte_comes_whole(site: Site) -> None:
    pod = pod_dir(site)
    content = os.urandom(1024 * 1024)
    (pod / "exit.json").write_bytes(content)
    own(site, pod / "exit.json")
    reply, data = ask(site, ReadLog(namespace="alice", uid=UID, file="exit.json"))
    assert (reply.size, data == content) == (len(content), True)


@pytest.mark.parametrize("kind", ["link", "linked directory", "fifo", "directory", "missing"])
def test_what_is_no_regular_file_beneath_is_not_read(site: Site, kind: str) -> None:
    pod = pod_dir(site)
    secret = Path(site.account.home) / "secret"
    secret.mkdir()
    (secret / "0.log").write_text("secret")
    own(site, secret, secret / "0.log")
    target = pod / "main"
    if kind == "linked directory":
        target.symlink_to(secret)
    else:
        target.mkdir()
    if kind == "link":
        (target / "0.log").symlink_to(secret / "0.log")
    elif kind == "fifo":
        os.mkfifo(target / "0.log")
    elif kind == "directory":
        (target / "0.log").mkdir()
    own(site, target, *target.glob("*"))
    reply, data = ask(site, ReadLog(namespace="alice", uid=UID, file="main/0.log"))
    assert data == b""
    assert str(reply.error).startswith("main/0.log: ")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be dropped")
def test_a_file_of_another_user_is_not_read(site: Site) -> None:
    pod = pod_dir(site)
    (pod / "exit.json").write_text("root's")
    (pod / "exit.json").chmod(0o600)
    reply, _ = ask(site, ReadLog(namespace="alice", uid=UID, file="exit.json"))
    assert reply.error == "exit.json: exit.json: Permission denied"
