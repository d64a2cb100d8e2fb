"""The agent away, and with it the node's heartbeat: pods go on, and nobody takes them away."""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e import pods
from tests.e2e.conftest import Lab
from tests.e2e.test_dns import ask

pytestmark = pytest.mark.disruptive

PODS = 20
SOAK = int(os.environ.get("ROUNDS", "3")) >= 50
GRACE_SECONDS = 900 if SOAK else 40
"""node_grace_seconds of the control plane: what sites have, or what CI has time for."""
AWAY_SECONDS = 600 if SOAK else 25
"""Of the agent and the lease, within that grace."""
UP_SECONDS = 5
"""For everything to be Ready after the agent's return: printed, not asserted."""
APP = "away-agent"
NAME = f"{APP}.alice.svc.cluster.local"
UNITS = ("slurmlet-kubelet", "slurmlet-lease")
CONFIG = "/etc/slurmlet/slurmlet.toml"
LOOP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"


def member(number: int) -> dict[str, Any]:
    item = pods.manifest(f"{APP}-{number}", "sh", "-c", LOOP)
    item["metadata"]["labels"] = {"app": APP}
    return item


def names() -> list[str]:
    return [f"{APP}-{number}" for number in range(PODS)]


def systemctl(lab: Lab, *arguments: str) -> None:
    lab.run("ctl", ["systemctl", *arguments], timeout=90)


def set_grace(lab: Lab, seconds: int | None) -> None:
    """Of the control plane, as an administrator would; None: what it has by itself."""
    there = f"sed -i '/^node_grace_seconds/d' {CONFIG}"
    if seconds is not None:
        there += f" && sed -i '/^\\[controlplane\\]/a node_grace_seconds = {seconds}' {CONFIG}"
    units = "/opt/slurmlet/current/bin/slurmlet-controlplane units"
    lab.run("ctl", ["sh", "-ec", f"{there}; {units}; systemctl daemon-reload"])
    systemctl(lab, "restart", "slurmlet-controller-manager")


@pytest.fixture(scope="module")
def members(lab: Lab) -> Iterator[dict[str, dict[str, Any]]]:
    """Twenty pods of one Service as they were when all of them were Ready."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": APP},
        "spec": {"selector": {"app": APP}, "ports": [{"port": 80}]},
    }
    pods.delete(lab, *names())
    lab.kubectl("alice", "delete", "service", APP, "--ignore-not-found")
    set_grace(lab, GRACE_SECONDS)
    try:
        pods.create(lab, service, *(member(number) for number in range(PODS)))
        yield pods.until(lambda: pods.get_all(lab, names()), all_ready, seconds=240, what="20 pods")
    finally:
        systemctl(lab, "start", *UNITS)
        set_grace(lab, None)
        lab.kubectl("alice", "delete", "service", APP, "--ignore-not-found")
        pods.delete(lab, *names())


def ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def all_ready(found: dict[str, dict[str, Any]]) -> bool:
    return len(found) == PODS and all(map(ready, found.values()))


def node_ready(lab: Lab) -> str:
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return lab.kubectl("root", "get", "node", "slurm", "-o", path).stdout


def untouched(lab: Lab, before: dict[str, dict[str, Any]]) -> None:
    """The same pods with the same jobs, none of them started again or about to go."""
    found = pods.get_all(lab, names())
    for name, pod in before.items():
        now = found[name]
        assert now["metadata"]["uid"] == pod["metadata"]["uid"]
        assert "deletionTimestamp" not in now["metadata"]
        assert pods.job_id(now) == pods.job_id(pod)
        assert now["status"]["phase"] == "Running"
        assert now["status"]["containerStatuses"] == pod["status"]["containerStatuses"]
    jobs = ",".join(map(pods.job_id, before.values()))
    argv = ["timeout", "30", "squeue", "-h", "-j", jobs, "-o", "%T"]
    assert lab.run("ctl", argv).stdout.split() == ["RUNNING"] * PODS


def returned(lab: Lab, units: tuple[str, ...]) -> float:
    """Start these, and count the seconds until node and pods are Ready."""
    systemctl(lab, "start", *units)
    began = time.monotonic()
    pods.until(
        lambda: (node_ready(lab), pods.get_all(lab, names())),
        lambda answer: answer[0] == "True" and all_ready(answer[1]),
        seconds=90,
        what="everything Ready",
    )
    return time.monotonic() - began


@pytest.mark.claim("V40")
@pytest.mark.timeout(AWAY_SECONDS + 600)
def test_nothing_happens_to_pods_while_the_agent_is_away(
    lab: Lab, members: dict[str, dict[str, Any]]
) -> None:
    addresses = ask(lab, "c1", NAME)
    assert len(addresses.split()) == PODS
    systemctl(lab, "stop", *UNITS)
    ends = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < ends:
        assert ask(lab, "c1", NAME) == addresses
        assert node_ready(lab) == "True"
        time.sleep(min(5, AWAY_SECONDS / 5))
    untouched(lab, members)
    took = returned(lab, UNITS)
    print(f"agent {AWAY_SECONDS} s away: all Ready after {took:.1f} s (aim {UP_SECONDS})")
    untouched(lab, members)
    assert ask(lab, "c1", NAME) == addresses


@pytest.mark.claim("V41")
@pytest.mark.timeout(GRACE_SECONDS + 600)
def test_a_node_that_is_lost_keeps_its_pods(lab: Lab, members: dict[str, dict[str, Any]]) -> None:
    systemctl(lab, "stop", *UNITS)
    pods.until(
        lambda: node_ready(lab),
        lambda status: status == "Unknown",
        seconds=GRACE_SECONDS + 60,
        what="the node is lost",
    )
    pods.until(
        lambda: pods.get_all(lab, names()),
        lambda found: not any(map(ready, found.values())),
        seconds=60,
        what="no pod is Ready",
    )
    untouched(lab, members)
    took = returned(lab, UNITS)
    print(f"node lost: all Ready {took:.1f} s after the agent's return (aim {UP_SECONDS})")
    untouched(lab, members)
    assert len(ask(lab, "c1", NAME).split()) == PODS


@pytest.mark.claim("V42")
@pytest.mark.timeout(300)
def test_without_slurmctld_the_node_says_so_and_stays(
    lab: Lab, members: dict[str, dict[str, Any]]
) -> None:
    def condition() -> dict[str, str]:
        node = json.loads(lab.kubectl("root", "get", "node", "slurm", "-o", "json").stdout)
        found = {item["type"]: item for item in node["status"]["conditions"]}
        assert found["Ready"]["status"] == "True"
        silent: dict[str, str] = found["SlurmReachable"]
        return silent

    late = f"{APP}-late"
    pods.delete(lab, late)
    systemctl(lab, "stop", "slurmctld")
    try:
        pods.create(lab, pods.manifest(late, "true"))
        silent = pods.until(
            condition, lambda item: item["status"] == "False", seconds=120, what="SlurmReachable"
        )
        assert silent["reason"] == "SlurmSilent"
        waiting = pods.until(
            lambda: _waiting(pods.get(lab, late)),
            lambda item: "slurm" in item.get("message", "").lower(),
            seconds=120,
            what="a reason to wait",
        )
        print(f"a new pod waits: {waiting}")
        found = pods.get_all(lab, names())
        assert all_ready(found)
    finally:
        systemctl(lab, "start", "slurmctld")
    pods.until(condition, lambda item: item["status"] == "True", seconds=120, what="Slurm answers")
    pods.wait_for_phase(lab, late, "Succeeded")
    untouched(lab, members)
    pods.delete(lab, late)


def _waiting(pod: dict[str, Any]) -> dict[str, str]:
    statuses = pod["status"].get("containerStatuses") or [{}]
    waiting: dict[str, str] = statuses[0].get("state", {}).get("waiting", {})
    return waiting
