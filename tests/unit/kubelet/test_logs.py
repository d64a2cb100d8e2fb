"""What of a log a client sees, compared with a plain reading of the same lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.crilog import format_line, format_time
from slurmlet.kubelet.logs import LogFilter, LogOptions, OptionError, TailSearch, read_options

TEXT = st.binary(max_size=30).map(lambda data: data.replace(b"\n", b" "))
ENTRIES = st.lists(st.tuples(st.integers(0, 10**6), TEXT, st.booleans()), max_size=20)


def file_of(entries: list[tuple[int, bytes, bool]]) -> bytes:
    return b"".join(
        format_line(nanoseconds=time * 10**9, stream="stdout", text=text, full=full)
        for time, text, full in entries
    )


def shown(options: LogOptions, *pieces: bytes) -> bytes:
    wanted = LogFilter(options)
    return b"".join(wanted.feed(piece) for piece in pieces)


@given(ENTRIES, st.integers(1, 50))
def test_text_arrives_whole_however_it_is_cut(
    entries: list[tuple[int, bytes, bool]], step: int
) -> None:
    data = file_of(entries)
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    expected = b"".join(text + (b"\n" if full else b"") for _, text, full in entries)
    assert shown(LogOptions(), *pieces) == expected


@given(ENTRIES, st.integers(1, 40))
def test_limit_is_exact(entries: list[tuple[int, bytes, bool]], limit: int) -> None:
    everything = shown(LogOptions(), file_of(entries))
    assert shown(LogOptions(limit_bytes=limit), file_of(entries)) == everything[:limit]


@given(ENTRIES, st.integers(0, 10**6))
def test_since_keeps_what_is_not_older(entries: list[tuple[int, bytes, bool]], since: int) -> None:
    options = LogOptions(since=format_time(since * 10**9))
    young = [entry for entry in entries if entry[0] >= since]
    assert shown(options, file_of(entries)) == shown(LogOptions(), file_of(young))


@given(ENTRIES, st.integers(0, 25), st.integers(20, 200))
def test_the_tail_begins_at_the_right_line(
    entries: list[tuple[int, bytes, bool]], lines: int, block: int
) -> None:
    data = file_of(entries)
    search = TailSearch(size=len(data), lines=lines)
    while search.offset is None:
        start, length = search.block(block)
        search.feed(start, data[start : start + length])
    kept = entries[-lines:] if lines else []
    assert data[search.offset :] == file_of(kept)


def test_a_line_in_pieces_has_one_time() -> None:
    data = file_of([(1, b"ab", False), (2, b"cd", True), (3, b"ef", True)])
    assert shown(LogOptions(timestamps=True), data) == (
        b"1970-01-01T00:00:01.000000000Z abcd\n1970-01-01T00:00:03.000000000Z ef\n"
    )


@given(st.binary(max_size=200))
def test_foreign_bytes_are_not_shown(data: bytes) -> None:
    assert shown(LogOptions(), data, b"\n", file_of([(1, b"x", True)])).endswith(b"x\n")


def test_options_of_a_query() -> None:
    query = {"follow": "true", "tailLines": "5", "sinceSeconds": "10", "limitBytes": "7"}
    assert read_options(query, now_ns=100 * 10**9) == LogOptions(
        follow=True, tail_lines=5, since="1970-01-01T00:01:30.000000000Z", limit_bytes=7
    )
    options = read_options({"sinceTime": "2026-01-01T01:00:00.5+01:00"}, now_ns=0)
    assert options.since == "2026-01-01T00:00:00.500000000Z"


@pytest.mark.parametrize(
    "query",
    [
        {"tailLines": "-1"},
        {"tailLines": "many"},
        {"limitBytes": "0"},
        {"follow": "maybe"},
        {"sinceTime": "yesterday"},
        {"sinceSeconds": "5", "sinceTime": "2026-01-01T00:00:00Z"},
    ],
)
def test_bad_options_are_named(query: dict[str, str]) -> None:
    with pytest.raises(OptionError, match=next(iter(query))):
        read_options(query, now_ns=0)
