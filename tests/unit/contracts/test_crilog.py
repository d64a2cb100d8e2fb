"""Log lines in CRI format."""

from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.crilog import LogLine, format_line, format_time, parse_line


def test_times_have_nine_digits() -> None:
    assert format_time(0) == "1970-01-01T00:00:00.000000000Z"
    assert format_time(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001Z"


@given(
    st.integers(0, 4 * 10**18),
    st.sampled_from(["stdout", "stderr"]),
    st.binary(max_size=100).filter(lambda text: b"\n" not in text),
    st.booleans(),
)
def test_what_is_written_is_read(nanoseconds: int, stream: str, text: bytes, full: bool) -> None:
    line = format_line(nanoseconds=nanoseconds, stream=stream, text=text, full=full)  # type: ignore[arg-type]
    expected = LogLine(
        time=format_time(nanoseconds), stream=stream, text=text + (b"\n" if full else b"")
    )
    assert parse_line(line) == expected
    assert parse_line(line.removesuffix(b"\n")) == expected


@given(st.binary(max_size=60))
def test_other_lines_are_none_or_parsed(line: bytes) -> None:
    parsed = parse_line(line)
    assert parsed is None or parsed.stream in ("stdout", "stderr")


def test_lines_that_are_not_cri() -> None:
    for line in (b"", b"hello world", b"t stdin F x", b"t stdout X x", b"t stdout F"):
        assert parse_line(line) is None
