"""Requests to the broker: what is sent arrives, what is wrong is refused by its field's name."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.brokerproto import (
    Answer,
    Cancel,
    ReadLog,
    RefusedError,
    Request,
    Submit,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

UID = "0a1b2c3d-0000-4000-8000-000000000001"
SUBMIT = Submit(
    namespace="alice",
    pod="web-0",
    uid=UID,
    attempt=1,
    options={"mem": "100M"},
    agent="10.77.0.1:10260",
    token="0" * 64,
)
READ = ReadLog(namespace="alice", uid=UID, file="main/0.log")


@pytest.mark.parametrize("request_", [SUBMIT, Cancel(namespace="alice", job_id=1), READ])
def test_requests_arrive(request_: Request) -> None:
    line = encode_request(request_)
    assert line.count(b"\n") == 1
    assert decode_request(line) == request_


@pytest.mark.parametrize("pod", ["a" * 253, f"{'a' * 100}.{'b' * 152}", "0.a-b"])
def test_every_name_that_kubernetes_gives_a_pod_is_taken(pod: str) -> None:
    request = dataclasses.replace(SUBMIT, pod=pod)
    assert decode_request(encode_request(request)) == request


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (dataclasses.replace(SUBMIT, namespace="Alice"), "namespace"),
        (dataclasses.replace(SUBMIT, namespace="a\n"), "namespace"),
        (dataclasses.replace(SUBMIT, pod="-web"), "pod"),
        (dataclasses.replace(SUBMIT, pod="a" * 254), "pod"),
        (dataclasses.replace(SUBMIT, pod="web\n"), "pod"),
        (dataclasses.replace(SUBMIT, pod="web..a"), "pod"),
        (dataclasses.replace(SUBMIT, uid=UID.upper()), "uid"),
        (dataclasses.replace(SUBMIT, agent="a b:1"), "agent"),
        (dataclasses.replace(SUBMIT, token="0" * 63), "token"),
        (dataclasses.replace(SUBMIT, attempt=-1), "attempt"),
        (dataclasses.replace(SUBMIT, grace_seconds=65536), "grace_seconds"),
        (dataclasses.replace(SUBMIT, options={"uid": "0"}), "options.uid"),
        (dataclasses.replace(SUBMIT, options={"mem": "1M --uid=0"}), "options.mem"),
        (dataclasses.replace(SUBMIT, options={"partition": "cpu\n"}), "options.partition"),
        (Cancel(namespace="alice", job_id=0), "job_id"),
        (dataclasses.replace(READ, file="../../etc/passwd"), "file"),
        (dataclasses.replace(READ, file="main/../x/0.log"), "file"),
        (dataclasses.replace(READ, file="exit.json\n"), "file"),
        (dataclasses.replace(READ, offset=-1), "offset"),
        (dataclasses.replace(READ, limit=2**20 + 1), "limit"),
    ],
)
def test_wrong_values_are_refused_by_name(request_: Request, field: str) -> None:
    with pytest.raises(RefusedError, match=f"^{field}: "):
        decode_request(encode_request(request_))


def test_a_wrong_token_is_not_repeated() -> None:
    data = json.loads(encode_request(SUBMIT)) | {"token": ["secret"]}
    with pytest.raises(RefusedError) as error:
        decode_request(json.dumps(data).encode())
    assert "secret" not in str(error.value)
    assert SUBMIT.token not in repr(SUBMIT)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["verb", "uid", "x"]), inner)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_nothing_but_a_refusal_comes_of_nonsense(line: bytes) -> None:
    with pytest.raises(RefusedError):
        decode_request(line)


@pytest.mark.parametrize(
    "answer", [Answer(job_id=7), Answer(error="no", retry=True), Answer(size=3, total=9)]
)
def test_answers_arrive(answer: Answer) -> None:
    assert decode_answer(encode_answer(answer)) == answer
