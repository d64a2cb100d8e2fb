"""What root on a node signed, as unmunge prints it."""

import json
from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.kubelet.address import Decoder, RecordError, Signed, proved, signed
from slurmlet.kubelet.slurm.process import CommandError, Commands

FACTS = {
    "version": 1,
    "job": 7,
    "uid": 2001,
    "host": "c1",
    "boot": "b",
    "podUID": "u",
    "podIP": "10.78.1.2",
}
RECORD = Signed(job=7, uid=2001, host="c1", pod_uid="u", pod_ip="10.78.1.2")


def printed(payload: str, *, uid: int = 0) -> str:
    size = len(payload.encode())
    return f"STATUS:          Expired (15)\nUID:             {uid}\nLENGTH:   {size}\n\n{payload}"


def test_the_facts_are_read() -> None:
    assert signed(printed(json.dumps(FACTS))) == RECORD


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2, not 1"),
        ({"job": "7"}, "not understood"),
        ({"job": True}, "not understood"),
        ({"podIP": None}, "not understood"),
        ({"host": 1}, "not understood"),
    ],
)
def test_other_facts_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecordError, match=words):
        signed(printed(json.dumps(FACTS | changes)))


def test_what_a_user_signed_is_refused() -> None:
    with pytest.raises(RecordError, match="not made by root"):
        signed(printed(json.dumps(FACTS), uid=2001))


@given(text=st.text())
def test_any_text_is_refused_or_read(text: str) -> None:
    for candidate in (text, printed(text)):
        with pytest.raises(RecordError):
            signed(candidate)


@pytest.mark.parametrize("hosts", [{"c1"}, {"C1.site.example"}, {"node7", "c1"}])
def test_the_address_is_proved(hosts: Collection[str]) -> None:
    assert proved(RECORD, job=7, uid=2001, pod_uid="u", hosts=hosts) == "10.78.1.2"


@pytest.mark.parametrize("address", ["::1", "0.0.0.0", "224.0.0.1", "10.78.1.2/24", "web"])
def test_an_address_that_is_none(address: str) -> None:
    record = Signed(job=7, uid=1, host="c1", pod_uid="u", pod_ip=address)
    with pytest.raises(RecordError, match="has the address"):
        proved(record, job=7, uid=1, pod_uid="u", hosts={"c1"})


class Munge(Commands):
    """Prints, or fails with a code."""

    def __init__(self, text: str = "", code: int | None = 0) -> None:
        super().__init__("/usr/bin")
        self.text, self.code = text, code
        self.asked: list[tuple[Sequence[str], bytes]] = []

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", accepted: Collection[int] = (0,)
    ) -> str:
        self.asked.append((argv, stdin))
        if self.code not in accepted:
            raise CommandError("unmunge: it failed", code=self.code)
        return self.text


@pytest.mark.parametrize("code", [0, 15, 16, 17])
async def test_expired_and_replayed_records_count(code: int) -> None:
    munge = Munge(printed(json.dumps(FACTS)), code)
    assert await Decoder(commands=munge, unmunge="/m/unmunge").decode("MUNGE:x:") == RECORD
    assert munge.asked[0][0][0] == "/m/unmunge"
    assert munge.asked[0][1] == b"MUNGE:x:"


@pytest.mark.parametrize("code", [None, 6, 7])
async def test_a_munged_that_is_down_says_nothing(code: int | None) -> None:
    with pytest.raises(CommandError):
        await Decoder(commands=Munge(code=code), unmunge="unmunge").decode("x")


@pytest.mark.parametrize("code", [8, 14, 18])
async def test_what_is_not_for_us_is_refused(code: int) -> None:
    with pytest.raises(RecordError, match="must be the user that the agent runs as"):
        await Decoder(commands=Munge(code=code), unmunge="unmunge").decode("x")


@pytest.mark.parametrize("record", ["x" * 20_000, "MUNGE:é:"])
async def test_what_is_no_credential_is_not_tried(record: str) -> None:
    munge = Munge()
    with pytest.raises(RecordError, match="no munge credential"):
        await Decoder(commands=munge, unmunge="unmunge").decode(record)
    assert munge.asked == []
