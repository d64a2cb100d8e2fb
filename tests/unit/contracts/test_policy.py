import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.identity import Identity, IdentityMap
from slurmlet.contracts.policy import (
    STALE_SECONDS,
    NodeSize,
    PolicyError,
    Snapshot,
    as_of,
    decode,
    encode,
)
from slurmlet.contracts.request import RequestPolicy

KNOWN = Snapshot(
    written=1000.5,
    nodes={"hpc-cpu": "cpu", "hpc-debug": "debug"},
    identities=IdentityMap(namespaces={"alice": Identity(user="alice", partitions=("cpu",))}),
    sizes={"cpu": (NodeSize(cpus=16, memory=2000, gres={"gpu": 2}),)},
    engines=("crun",),
    request=RequestPolicy(options={"qos": "normal"}),
)


@pytest.mark.parametrize("snapshot", [KNOWN, Snapshot()])
def test_what_is_published_is_what_is_read(snapshot: Snapshot) -> None:
    assert decode(encode(snapshot)) == snapshot


def test_keys_of_a_newer_agent_are_ignored() -> None:
    data = json.loads(encode(KNOWN)) | {"weather": "fine"}
    assert decode(json.dumps(data)) == KNOWN


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no policy snapshot"),
        ("[]", "expected a table"),
        ('{"version": 2}', "policy.version: 2"),
        ('{"sizes": {"cpu": [{"cpus": "many", "memory": 1}]}}', r"policy.sizes.cpu\[0\].cpus"),
        ("[" * 100_000, "no policy snapshot"),
    ],
)
def test_another_text_is_named(text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        decode(text)


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_a_snapshot_or_an_error(text: Any) -> None:
    with pytest.raises(PolicyError):
        decode(text)


def test_sizes_of_a_stale_snapshot_are_not_known() -> None:
    assert as_of(KNOWN, KNOWN.written + STALE_SECONDS) == KNOWN
    stale = as_of(KNOWN, KNOWN.written + STALE_SECONDS + 1)
    assert stale.sizes == {}
    assert stale.identities == KNOWN.identities
