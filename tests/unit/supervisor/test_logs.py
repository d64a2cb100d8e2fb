"""Containers' output as CRI lines."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.crilog import MAX_PART, parse_line
from slurmlet.supervisor.logs import LogFile, Splitter, copy_output, tail_offset


def texts(data: bytes) -> list[bytes]:
    parsed = [parse_line(line) for line in data.splitlines(keepends=True)]
    return [line.text for line in parsed if line]


@given(st.lists(st.binary(max_size=40)))
def test_the_bytes_come_out_as_they_went_in(pieces: list[bytes]) -> None:
    splitter = Splitter("stdout", clock=lambda: 0)
    output = b"".join(splitter.feed(piece) for piece in pieces) + splitter.end()
    # b"\r" and the like begin no new line for the format.
    lines = [line + b"\n" for line in output.split(b"\n")[:-1]]
    parsed = [parse_line(line) for line in lines]
    assert all(parsed)
    assert b"".join(line.text for line in parsed if line) == b"".join(pieces)


def test_long_lines_are_cut() -> None:
    splitter = Splitter("stderr", clock=lambda: 0)
    output = splitter.feed(b"x" * (2 * MAX_PART + 5)) + splitter.feed(b"y\nz") + splitter.end()
    assert [len(text) for text in texts(output)] == [MAX_PART, MAX_PART, 7, 1]
    assert [line.split()[2] for line in output.splitlines()] == [b"P", b"P", b"F", b"P"]


@given(st.lists(st.binary(max_size=9).filter(lambda line: b"\n" not in line)), st.integers(0, 12))
def test_tail_finds_the_last_lines(
    tmp_path_factory: object, lines: list[bytes], count: int
) -> None:
    content = b"".join(line + b"\n" for line in lines)
    descriptor = os.memfd_create("log")
    try:
        os.write(descriptor, content)
        offset = tail_offset(descriptor, count)
    finally:
        os.close(descriptor)
    expected = b"".join(line + b"\n" for line in (lines[-count:] if count else []))
    assert content[offset:] == expected


def test_tail_of_a_large_file() -> None:
    descriptor = os.memfd_create("log")
    try:
        os.write(descriptor, b"".join(b"%06d\n" % number for number in range(50_000)))
        offset = tail_offset(descriptor, 20_000)
        assert os.pread(descriptor, 7, offset) == b"030000\n"
    finally:
        os.close(descriptor)


async def test_output_is_copied_and_followers_are_woken(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "main" / "0.log", limit=10**6)
    grown = log.subscribe()
    read, write = os.pipe()
    os.write(write, b"one\ntw")
    os.write(write, b"o\nrest")
    os.close(write)
    await copy_output(read, "stdout", log)
    assert grown.is_set()
    log.finish()
    assert texts(log.path.read_bytes()) == [b"one\n", b"two\n", b"rest"]
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert log.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_log_is_bounded(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log", limit=100)
    for number in range(30):
        log.write(b"line %02d.........\n" % number)
    log.finish()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 100
    assert b"line 29" in log.path.read_bytes()


def test_a_log_that_cannot_be_written_does_not_stop_the_container(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log", limit=10)
    (tmp_path / "0.log").unlink()
    log.write(b"0123456789\n")
    log.write(b"rotation finds no file\n")
    log.finish()


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "0.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        LogFile(tmp_path / "0.log", limit=10)
    assert (tmp_path / "precious").read_text() == "keep"
