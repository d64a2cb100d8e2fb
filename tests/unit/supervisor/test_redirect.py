"""Rules of the pod's own network: their text, and when they are applied."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.podproto import Event, Forwarding, Redirection, Update
from slurmlet.supervisor import redirect
from slurmlet.supervisor.process import ProcessError
from slurmlet.supervisor.redirect import Redirector, ruleset

WEB = Redirection(port=80, target_port=8080)
API = Forwarding(address="10.96.0.1", port=443, to_address="10.77.0.1", to_port=6443)


def test_the_table_is_replaced_whole() -> None:
    lines = ruleset(Update(services=(WEB,), forwardings=(API,)), pod_ip="10.78.1.5").splitlines()
    table = "inet slurmlet-services"
    assert lines[:3] == [f"add table {table}", f"delete table {table}", f"add table {table}"]
    web = "ip daddr 10.78.1.5 tcp dport 80 dnat ip to 10.78.1.5:8080"
    api = "ip daddr 10.96.0.1 tcp dport 443 dnat ip to 10.77.0.1:6443"
    assert [line.split("services ", 1)[1] for line in lines[3:]] == [
        "prerouting { type nat hook prerouting priority dstnat; policy accept; }",
        f"prerouting {web}",
        "output { type nat hook output priority -100; policy accept; }",
        f"output {web}",
        f"output {api}",
    ]


def test_ipv6_and_udp() -> None:
    update = Update(services=(Redirection(port=53, target_port=5353, protocol="UDP"),))
    text = ruleset(update, pod_ip="fd00::5")
    assert "ip6 daddr fd00::5 udp dport 53 dnat ip6 to [fd00::5]:5353" in text


@pytest.mark.parametrize(
    ("update", "pod_ip"),
    [
        (Update(services=(Redirection(port=0, target_port=1),)), "10.0.0.1"),
        (Update(services=(Redirection(port=1, target_port=65536),)), "10.0.0.1"),
        (Update(services=(Redirection(port=1, target_port=2, protocol="SCTP"),)), "10.0.0.1"),
        (Update(services=(WEB,)), ""),
        (
            Update(
                forwardings=(Forwarding(address="::1", port=1, to_address="10.0.0.1", to_port=1),)
            ),
            "10.0.0.1",
        ),
    ],
)
def test_nonsense_is_no_rule(update: Update, pod_ip: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ruleset(update, pod_ip=pod_ip)


@given(st.text(), st.integers(), st.text(), st.text())
def test_nothing_foreign_gets_into_the_text(
    protocol: str, port: int, address: str, other: str
) -> None:
    update = Update(
        services=(Redirection(port=port, target_port=80, protocol=protocol),),
        forwardings=(Forwarding(address=address, port=port, to_address=other, to_port=1),),
    )
    try:
        text = ruleset(update, pod_ip="10.0.0.1")
    except ValueError:
        return
    assert len(text.splitlines()) == 8


class Inside:
    """An anchor that runs nft; the first `failures` times it fails."""

    def __init__(self, root: Path, *, failures: int = 0) -> None:
        self.root = root
        self.failures = failures
        self.applied: list[str] = []
        self.news = asyncio.Event()

    def path(self, inner: str) -> Path:
        return Path(f"{self.root}{inner}")

    async def run(self, argv: Sequence[str]) -> None:
        assert argv[:2] == ["/usr/sbin/nft", "-f"]
        self.news.set()
        if self.failures:
            self.failures -= 1
            raise ProcessError("/usr/sbin/nft: no room")
        self.applied.append(self.path(argv[2]).read_text())

    async def until_applied(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.applied) < count:
                self.news.clear()
                await self.news.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redirect, "PAUSE", 0.0)


def make(inside: Inside, told: list[Event]) -> Redirector:
    anchor: Any = inside
    return Redirector(anchor=anchor, directory="", pod_ip="10.0.0.1", tell=told.append)


async def test_each_change_is_applied_once(tmp_path: Path) -> None:
    inside = Inside(tmp_path)
    redirector = make(inside, [])
    redirector.want(Update())
    running = asyncio.create_task(redirector.run())
    redirector.want(Update(services=(WEB,)))
    await inside.until_applied(1)
    redirector.want(Update(services=(WEB,)))
    redirector.want(Update())
    await inside.until_applied(2)
    running.cancel()
    assert "dport 80" in inside.applied[0]
    assert "dport 80" not in inside.applied[1]


async def test_a_failure_is_tried_again(tmp_path: Path) -> None:
    inside, told = Inside(tmp_path, failures=2), list[Event]()
    redirector = make(inside, told)
    running = asyncio.create_task(redirector.run())
    redirector.want(Update(services=(WEB,)))
    await inside.until_applied(1)
    running.cancel()
    assert told == []


async def test_a_lasting_failure_is_told_and_the_next_update_tried(tmp_path: Path) -> None:
    inside, told = Inside(tmp_path, failures=redirect.TRIES), list[Event]()
    redirector = make(inside, told)
    running = asyncio.create_task(redirector.run())
    redirector.want(Update(services=(WEB,)))
    async with asyncio.timeout(10):
        while not told:  # noqa: ASYNC110 - telling has no event
            await asyncio.sleep(0.01)
    assert told[0].reason == "FailedServiceRedirect"
    assert "no room" in told[0].message
    redirector.want(Update(services=(WEB,)))
    await inside.until_applied(1)
    running.cancel()
