"""Messages between agent and supervisor."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.podproto import (
    MAX_MESSAGE,
    MAX_PLAN,
    PLAN_CHUNK,
    Ack,
    Bye,
    ContainerReport,
    ContainerState,
    Event,
    Forwarding,
    Hello,
    Message,
    OpenStream,
    Plan,
    PlanChunk,
    ProtocolError,
    Redirection,
    Status,
    Stop,
    StreamFailed,
    Update,
    Volume,
    VolumeFile,
    decode_message,
    encode_message,
    encode_plan,
    join_plan,
    token,
)

MESSAGES = [
    Hello(job_id=7, host="c1", planned=True),
    Hello(job_id=7, host="c1", record="MUNGE:x:", problem="no network"),
    Status(
        seq=3,
        phase="Running",
        containers=(
            ContainerReport(
                name="main",
                init=False,
                state=ContainerState(kind="running", started_at="2026-01-01T00:00:00Z"),
                last=ContainerState(kind="terminated", exit_code=0, reason="Completed"),
                restart_count=1,
            ),
        ),
    ),
    Event(reason="Pulling", message="Pulling image", container="main"),
    StreamFailed(id="1", message="no"),
    Bye(reason="enough"),
    PlanChunk(index=0, total=1, data="{}"),
    Stop(grace=2.5),
    OpenStream(id="1", kind="logs", container="main", follow=True, tail_lines=5),
    Ack(seq=3),
    Update(),
    Update(
        services=(Redirection(port=80, target_port=8080),),
        forwardings=(
            Forwarding(address="10.96.0.1", port=443, to_address="10.77.0.1", to_port=6443),
        ),
    ),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_arrive(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


def test_a_newer_peer_is_understood_as_far_as_possible() -> None:
    unknown: list[str] = []
    text = '{"type": "ack", "seq": 1, "colour": "red"}'
    assert decode_message(text, unknown=unknown) == Ack(seq=1)
    assert decode_message('{"type": "resize"}', unknown=unknown) is None
    assert unknown == ["ack.colour", "type resize"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", "{}", '{"type": "ack"}', '{"type": "ack", "seq": "1"}', '{"type": "ack"'],
)
def test_wrong_messages(text: str) -> None:
    with pytest.raises(ProtocolError):
        decode_message(text)


def test_values_are_not_repeated() -> None:
    with pytest.raises(ProtocolError) as error:
        decode_message('{"type": "ack", "seq": "secret"}')
    assert "secret" not in str(error.value)


def plan(text: str) -> Plan:
    return Plan(
        pod={"metadata": {"name": "web"}},
        volumes=(Volume(name="v", kind="files", files=(VolumeFile(path="a", data="eA=="),)),),
        secrets={"s": {"k": text}},
        engine="crun",
    )


@pytest.mark.parametrize("size", [0, PLAN_CHUNK - 1, PLAN_CHUNK * 3])
def test_plans_arrive_in_chunks_of_bounded_size(size: int) -> None:
    whole = plan('"' * size)
    chunks = list(encode_plan(whole))
    assert all(len(encode_message(chunk)) < MAX_MESSAGE for chunk in chunks)
    for count in range(1, len(chunks)):
        assert join_plan(chunks[:count]) is None
    assert join_plan(chunks) == whole


def test_a_plan_has_a_greatest_size() -> None:
    with pytest.raises(ProtocolError, match="more than"):
        list(encode_plan(plan("x" * MAX_PLAN)))


@pytest.mark.parametrize(
    "chunks",
    [
        [PlanChunk(index=1, total=2, data="")],
        [PlanChunk(index=0, total=0, data="")],
        [PlanChunk(index=0, total=10**6, data="")],
        [PlanChunk(index=0, total=2, data=""), PlanChunk(index=1, total=3, data="")],
        [PlanChunk(index=0, total=1, data=""), PlanChunk(index=1, total=1, data="")],
        [PlanChunk(index=0, total=1, data="{")],
        [PlanChunk(index=0, total=1, data='{"pod": 1}')],
    ],
)
def test_wrong_plans(chunks: list[PlanChunk]) -> None:
    with pytest.raises(ProtocolError):
        join_plan(chunks)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["seq", "phase", "containers", "id", "kind"]), inner)
    ),
    max_leaves=6,
)


@given(st.sampled_from(["status", "stop", "open-stream", "hello", "x"]), JSON)
def test_only_protocol_errors_come_of_nonsense(kind: str, value: Any) -> None:
    data = {"type": kind, **(value if isinstance(value, dict) else {"seq": value})}
    try:
        decode_message(json.dumps(data))
    except ProtocolError:
        return


def test_a_token_is_of_one_pod_attempt_and_user() -> None:
    first = token(key=b"k", uid="u", attempt=1, user="alice")
    assert len(first) == 64
    others = [
        token(key=b"l", uid="u", attempt=1, user="alice"),
        token(key=b"k", uid="v", attempt=1, user="alice"),
        token(key=b"k", uid="u", attempt=2, user="alice"),
        token(key=b"k", uid="u", attempt=1, user="bob"),
    ]
    assert len({first, *others}) == 5
