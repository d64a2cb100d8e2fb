"""The command as a whole, and what it asks Slurm and the DNS server."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slurmlet.cli import dns, doctor, slurm
from slurmlet.cli.__main__ import main

GOOD = """\
Configuration data as of 2026-01-01T00:00:00
JobContainerType        = (null)
PrologFlags             = Alloc,Contain
"""


def test_a_good_slurm_conf_is_no_problem() -> None:
    assert slurm.examine(GOOD, disabled="") == []


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ("Alloc,Contain", "(null)", "lacks Contain"),
        ("Alloc,Contain", "Contain,RunInJob", "RunInJob"),
        ("(null)", "job_container/tmpfs", "JobContainerType is job_container/tmpfs"),
        ("JobContainerType        = (null)", "NamespaceType = namespace/linux", "NamespaceType"),
    ],
)
def test_what_is_in_the_way_of_sandboxes_is_told(before: str, after: str, word: str) -> None:
    (finding,) = slurm.examine(GOOD.replace(before, after), disabled="")
    assert finding.problem
    assert word in finding.text


def test_what_slurmd_found_is_told_and_a_silent_slurmctld_is_no_proof() -> None:
    first, second = slurm.examine(None, disabled="slurmd is not in the mnt namespace")
    assert first.problem
    assert "mnt namespace" in first.text
    assert not second.problem


def test_jobs_that_are_hidden_from_the_agent_are_told() -> None:
    hiding = f"{GOOD}PrivateData             = accounts,jobs\n"
    (finding,) = slurm.privacy(hiding, user="slurmlet", level="None\n")
    assert finding.problem
    assert finding.text.endswith("sacctmgr modify user slurmlet set AdminLevel=Operator")
    (unknown,) = slurm.privacy(hiding, user="slurmlet", level=None)
    assert not unknown.problem
    assert slurm.privacy(hiding, user="slurmlet", level="Operator\n") == []
    assert slurm.privacy(GOOD, user="slurmlet", level="None\n") == []


@contextmanager
def answering(*, code: int, records: int) -> Iterator[int]:
    """A DNS server that gives one answer; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)

        def serve() -> None:
            question, peer = server.recvfrom(512)
            header = question[:2] + struct.pack(">5H", 0x8180 | code, 1, records, 0, 0)
            server.sendto(header + question[12:], peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_a_question_and_its_answer() -> None:
    with answering(code=0, records=1) as port:
        assert dns.ask("127.0.0.1", "kubernetes.default.svc.cluster.local", port=port) == (0, 1)
    with answering(code=3, records=0) as port:
        assert dns.ask("127.0.0.1", "nothing.example.org", port=port) == (3, 0)


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(server: str, name: str) -> tuple[int, int]:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(dns, "ask", refused)
    (finding,) = dns.examine("10.77.0.1", domain="cluster.local")
    assert "10.77.0.1: Connection refused" in finding.text
    monkeypatch.setattr(dns, "ask", lambda server, name: (3, 0))
    (finding,) = dns.examine("10.77.0.1", domain="k8s.example.org")
    assert "kubernetes.default.svc.k8s.example.org" in finding.text


def test_a_broken_configuration_is_one_line_and_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "slurmlet.toml"
    config.write_text('[sandbox.network]\nranges = ["10.78.1.5/24"]\n')
    assert main(["doctor", "--config", str(config)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "sandbox.network.ranges" in lines[0]


def test_notes_alone_are_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_PLUGINS", tmp_path)
    config = tmp_path / "slurmlet.toml"
    config.write_text("[sandbox]\n")
    assert main(["doctor", "--config", str(config)]) == 0
    shown = capsys.readouterr().out
    assert "note: " in shown
    assert "slurmlet_pod_cidr" in shown
    assert "no problem found" in shown
