from pathlib import PurePosixPath

from slurmlet.contracts import names

UID = "0e6b9e5c-1111-2222-3333-444455556666"


def test_the_key_of_a_job_survives_where_slurmdbd_cuts_its_name() -> None:
    name = names.job_name(uid=UID, namespace="n" * 63, pod="p" * 253)
    assert name[:255].startswith("0e6b9e5c/")
    assert names.job_name(uid=UID, namespace="alice", pod="web") == "0e6b9e5c/alice/web"


def test_the_comment_tells_installation_pod_and_attempt() -> None:
    comment = names.job_comment(cluster="lab", namespace="alice", pod="web", uid=UID, attempt=2)
    assert comment == f"slurmlet:lab:alice/web:{UID}:2"


def test_the_job_script_says_nothing_of_any_pod_and_replaces_its_shell() -> None:
    shebang, command, rest = names.JOB_SCRIPT.split("\n")
    assert shebang == "#!/bin/sh"
    assert command == (
        'cd -P /opt/slurmlet/current && exec "$PWD/bin/python" -I -m slurmlet.supervisor'
    )
    assert rest == ""


def test_where_a_pod_keeps_its_logs() -> None:
    directory = names.pod_state_dir("/home/alice/.slurmlet/lab", UID)
    assert directory == PurePosixPath(f"/home/alice/.slurmlet/lab/pods/{UID}")
    assert names.log_file("web", 3) == "web/3.log"
    assert [names.log_part("web/3.log", age) for age in (0, 2)] == ["web/3.log", "web/3.log.2"]
