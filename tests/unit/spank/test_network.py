"""A sandbox's network: made, undone, repaired after a death at any step."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from slurmlet.spank import remove
from slurmlet.spank.network import NetworkError, attachment, cni, leases

from .fakenode import FakeNode, Killed, install


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    made = FakeNode(root=tmp_path)
    install(made, monkeypatch)
    return made


def free_rested() -> list[str]:
    """As a prolog would a minute later."""
    later = leases._now() + leases.REST + 1
    with mock.patch.object(leases, "_now", lambda: later):
        return leases.free()


def nothing_is_left(node: FakeNode) -> None:
    assert not node.jobs.exists() or list(node.jobs.iterdir()) == []
    assert node.links == {}
    assert node.mounts == []
    # What is leased rests, and what rests is leased or will not be missed.
    containers = {name.removesuffix(".json") for name in node.resting()}
    assert set(node.leases.values()) <= containers
    assert free_rested() == []
    assert node.leases == {}
    assert node.resting() == []


def test_a_network_is_made_and_removed(node: FakeNode) -> None:
    made = node.make(12)
    assert made["podIP"] == "10.78.1.2"
    assert made["mode"] == "net"
    assert made["interface"] == {"name": "veth5", "index": 5}
    assert made["cni"]["ips"][0]["address"] == "10.78.1.2/24"
    assert "net" in made["namespaces"]
    signed = json.loads(node.sandbox(12).signed.read_text())
    assert signed["podIP"] == "10.78.1.2"
    assert 'add element inet slurmlet addresses { "veth5" . 10.78.1.2 }' in node.rules
    node.remove(12)
    assert "veth5" not in node.rules
    assert "inet slurmlet" in node.rules
    nothing_is_left(node)


def test_users_pass_to_the_pins_when_all_is_done(node: FakeNode) -> None:
    node.failing.add("nft")
    assert "cannot set the rules" in node.make(12)["error"]
    assert not node.sandbox(12).namespaces.exists()
    node.failing.clear()
    node.make(12)
    assert node.sandbox(12).namespaces.stat().st_mode & 0o777 == 0o755


def test_plugins_are_chained_and_undone_in_reverse(node: FakeNode) -> None:
    made = node.make(12)
    netns = str(node.sandbox(12).namespaces / "net")
    (first, environment, given), (second, _, chained) = node.calls
    assert (first, second) == ("ptp", "tuning")
    assert environment["CNI_COMMAND"] == "ADD"
    assert environment["CNI_CONTAINERID"].startswith("12-")
    assert environment["CNI_IFNAME"] == "eth0"
    assert environment["CNI_NETNS"] == netns
    assert environment["CNI_PATH"] == str(node.root / "bin")
    assert (given["name"], given["cniVersion"]) == ("test", "1.0.0")
    assert "prevResult" not in given
    assert chained["prevResult"] == made["cni"]
    node.calls.clear()
    node.remove(12)
    assert node.calls == []
    free_rested()
    assert [name for name, _, _ in node.calls] == ["tuning", "ptp"]
    assert all(call["prevResult"] == made["cni"] for _, _, call in node.calls)
    assert {env["CNI_NETNS"] for _, env, _ in node.calls} == {""}


def test_a_second_make_changes_nothing(node: FakeNode) -> None:
    first = node.make(12)
    node.calls.clear()
    assert node.make(12) == first
    assert node.calls == []


def test_an_address_rests_before_it_is_another_pods(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(leases, "_now", lambda: clock)
    node.make(12)
    node.remove(12)
    clock += leases.REST - 1
    assert node.collect() == []
    assert list(node.leases) == ["10.78.1.2"]
    assert node.make(13)["podIP"] == "10.78.1.3"
    clock += 2
    assert node.collect() == []
    assert list(node.leases) == ["10.78.1.3"]


def test_an_epilog_frees_all_that_rested_and_a_prolog_keeps_nobody_waiting(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy node, where CNI DEL takes its time."""
    clock = 1000.0
    monkeypatch.setattr(leases, "_now", lambda: clock)
    delete = cni.delete

    def slow_delete(*words: Any, **named: Any) -> None:
        nonlocal clock
        clock += 0.7
        delete(*words, **named)

    monkeypatch.setattr(cni, "delete", slow_delete)
    for job in range(1, 6):
        node.make(job)
    for job in range(1, 6):
        node.remove(job)
    clock += leases.REST + 1
    assert node.collect() == []
    assert len(node.resting()) == 4
    assert remove.collect(jobs=node.jobs, seconds=leases.EPILOG_SECONDS) == []
    assert node.resting() == []
    assert node.leases == {}


def test_a_requeued_job_keeps_the_lease_of_its_second_life(node: FakeNode) -> None:
    node.make(12)
    node.remove(12)
    assert node.make(12)["podIP"] == "10.78.1.3"
    free_rested()
    assert list(node.leases) == ["10.78.1.3"]


def test_without_a_free_address_one_is_told_and_none_that_rests_is_given(node: FakeNode) -> None:
    node.addresses = 2
    node.make(1)
    node.remove(1)
    node.make(2)
    error = node.make(3)["error"]
    assert error.startswith("this node has no address left for another pod")
    assert "after 60 s" in error
    node.remove(3)
    later = leases._now() + leases.REST + 1
    with mock.patch.object(leases, "_now", lambda: later):
        assert node.make(4)["podIP"] == "10.78.1.2"


def test_a_del_that_fails_is_told_and_tried_again_later(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(leases, "_now", lambda: clock)
    node.make(12)
    node.remove(12)
    node.failing.add("tuning")
    clock += leases.REST
    (problem,) = node.collect()
    assert "CNI plugin tuning, DEL: broken today" in problem
    assert node.collect() == []
    node.failing.clear()
    clock += 5 * leases.REST
    assert node.collect() == []
    assert node.leases == {}


def test_a_del_that_always_fails_is_given_up(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(leases, "_now", lambda: clock)
    node.failing.add("tuning")
    node.make(12)
    node.remove(12)
    told = 0
    for _ in range(20 * 60):
        clock += 60
        told += len(node.collect())
        if not node.resting():
            break
    assert told == 5
    assert node.resting() == []


def test_a_file_that_is_not_understood_is_told_once(node: FakeNode) -> None:
    node.make(12)
    node.remove(12)
    (file,) = (node.root / "resting").iterdir()
    file.write_text("{")
    (problem,) = node.collect()
    assert problem.startswith(str(file))
    assert node.collect() == []


def test_the_plugin_sees_from_outside_when_an_address_is_due(node: FakeNode) -> None:
    node.make(12)
    node.remove(12)
    (file,) = (node.root / "resting").iterdir()
    assert 55 < file.stat().st_mtime - time.time() <= 61


@pytest.mark.parametrize(("program", "why"), [("ptp", "broken today"), ("tuning", "broken today")])
def test_what_fails_is_in_the_record_and_undone(node: FakeNode, program: str, why: str) -> None:
    node.failing.add(program)
    made = node.make(12)
    assert made["error"] == f"CNI plugin {program}, ADD: {why}"
    assert made["namespaces"] == {}
    assert made["podIP"] == ""
    assert "cni" not in made
    assert node.mounts == []
    assert node.links == {}
    node.failing.clear()
    node.remove(12)
    nothing_is_left(node)


def test_without_a_configured_network_a_job_has_the_hosts(node: FakeNode) -> None:
    node.network = type(node.network)()
    made = node.make(12)
    assert made["mode"] == "host"
    assert set(made["namespaces"]) == {"user", "ipc", "uts"}
    assert node.calls == []
    node.remove(12)
    nothing_is_left(node)


def test_an_address_of_another_pod_or_outside_the_ranges_is_refused(node: FakeNode) -> None:
    node.make(1)
    node.leases.clear()
    assert "10.78.1.2, which another pod here has" in node.make(2)["error"]
    node.network = type(node.network)(
        conf_dir="/x", bin_dirs=node.network.bin_dirs, ranges=("10.79.0.0/16",)
    )
    assert "not in sandbox.network.ranges (10.79.0.0/16)" in node.make(3)["error"]


def test_only_the_recorded_interface_is_deleted(node: FakeNode) -> None:
    """Whoever has its name or its index by now keeps it."""
    node.make(12)
    node.links = {5: ("eth0", "host"), 6: ("veth5", "host")}
    node.remove(12)
    assert node.links == {5: ("eth0", "host"), 6: ("veth5", "host")}


def test_rules_that_others_flushed_come_back_with_the_next_pod(node: FakeNode) -> None:
    node.make(1)
    node.rules = ""
    node.make(2)
    assert '"veth5" . 10.78.1.2, "veth6" . 10.78.1.3' in node.rules


def test_what_another_boot_left_has_no_say_over_interfaces(node: FakeNode) -> None:
    node.make(12)
    known = attachment.read(node.sandbox(12).network)
    assert known is not None
    text = attachment.encode(known).replace(known.boot, "another")
    node.sandbox(12).network.write_text(text)
    data = json.loads(node.sandbox(12).record.read_text()) | {"boot": "another"}
    node.sandbox(12).record.write_text(json.dumps(data))
    node.links = {5: ("veth5", "another pod's")}
    assert node.collect() == []
    assert node.links == {5: ("veth5", "another pod's")}
    # Nothing of that boot can still be in use: its address was free at once.
    assert node.leases == {}


def test_a_death_at_any_step_of_make_is_repaired(node: FakeNode) -> None:
    """By the garbage collection of another job's prolog."""
    step = 0
    while True:
        step += 1
        node.steps, node.kill_at = 0, step
        try:
            node.make(12)
        except Killed:
            pass
        else:
            break
        node.kill_at = 0
        record_is_there = node.sandbox(12).record.exists()
        assert node.collect() == []
        if record_is_there:
            node.remove(12)
        nothing_is_left(node)
    assert step > 30
    node.kill_at = 0
    node.remove(12)
    nothing_is_left(node)


def test_a_death_at_any_step_of_make_is_repaired_by_the_same_job(node: FakeNode) -> None:
    step = 0
    while True:
        step += 1
        node.steps, node.kill_at = 0, step
        try:
            node.make(12)
        except Killed:
            pass
        else:
            break
        node.kill_at = 0
        made = node.make(12)
        assert "error" not in made
        assert node.sandbox(12).namespaces.stat().st_mode & 0o777 == 0o755
        assert len(node.links) == 1
        assert made["podIP"] in node.leases
        node.remove(12)
        nothing_is_left(node)


def test_a_failure_at_any_step_of_make_is_told_and_undone(node: FakeNode) -> None:
    """Or the prolog's helper fails: that is when not even the record can be written."""
    told = step = 0
    while True:
        step += 1
        node.steps, node.fail_at = 0, step
        try:
            made = node.make(12)
        except OSError:
            made = {"error": "in slurmd's log"}
        told += "Input/output error" in made.get("error", "")
        last = node.steps < step
        node.fail_at = 0
        if "error" in made:
            assert node.links == {}
        node.remove(12)
        assert node.collect() == []
        nothing_is_left(node)
        if last:
            break
    assert told > 15


def test_a_failure_at_any_step_of_remove_is_repaired(node: FakeNode) -> None:
    step = 0
    while True:
        step += 1
        node.fail_at = 0
        node.make(12)
        node.steps, node.fail_at = 0, step
        with contextlib.suppress(OSError, NetworkError):
            node.remove(12)
        last = node.steps < step
        node.fail_at = 0
        node.remove(12)
        assert node.collect() == []
        nothing_is_left(node)
        if last:
            break


def test_a_death_at_any_step_of_remove_is_repaired(node: FakeNode) -> None:
    step = 0
    while True:
        step += 1
        node.kill_at = 0
        node.make(12)
        node.steps, node.kill_at = 0, step
        try:
            node.remove(12)
        except Killed:
            pass
        else:
            break
        node.kill_at = 0
        if step == 1:
            # Not even the tombstone is there: the job may run for all we know.
            node.remove(12)
        assert node.collect() == []
        nothing_is_left(node)
    assert step > 15
    node.kill_at = 0
    nothing_is_left(node)


def test_a_death_while_an_address_is_freed_frees_it_later(node: FakeNode) -> None:
    for step in range(1, 6):
        node.kill_at = 0
        node.make(12)
        node.remove(12)
        node.steps, node.kill_at = 0, step
        try:
            free_rested()
        except Killed:
            node.kill_at = 0
            assert free_rested() == []
        node.kill_at = 0
        assert node.leases == {}
        assert node.resting() == []


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version": 2}', "{" * 9999])
def test_a_cut_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    assert attachment.read(tmp_path / "x") is None
