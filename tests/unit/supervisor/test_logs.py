"""Containers' output as CRI lines."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.crilog import MAX_PART, parse_line
from slurmlet.contracts.names import LOG_PARTS, log_part
from slurmlet.supervisor.logs import (
    LogFile,
    LogText,
    Splitter,
    copy_output,
    remove_log,
    tail_start,
)


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


def parts_of(directory: Path, *parts: bytes) -> LogText:
    """A log in these files, oldest first."""
    for age, content in enumerate(reversed(parts)):
        (directory / log_part("0.log", age)).write_bytes(content)
    return LogText.stored(directory / "0.log")


def whole(text: LogText, generation: int, offset: int) -> bytes:
    """All of a log from a place on."""
    rest = range(generation, text.newest + 1)
    return b"".join(text.read(each, offset if each == generation else 0, 10**7) for each in rest)


LINES = st.lists(st.binary(max_size=9).filter(lambda line: b"\n" not in line))


@given(st.lists(LINES, min_size=1, max_size=4), st.integers(0, 12))
def test_tail_finds_the_last_lines_in_all_files(parts: list[list[bytes]], count: int) -> None:
    with TemporaryDirectory() as directory:
        contents = [b"".join(line + b"\n" for line in lines) for lines in parts]
        text = parts_of(Path(directory), *contents)
        found = whole(text, *tail_start(text, count))
    lines = [line for each in parts for line in each]
    assert found == b"".join(line + b"\n" for line in (lines[-count:] if count else []))


def test_tail_of_a_large_file(tmp_path: Path) -> None:
    lines = [b"%06d\n" % number for number in range(50_000)]
    text = parts_of(tmp_path, b"".join(lines[:5_000]), b"".join(lines[5_000:]))
    assert text.read(*tail_start(text, 20_000), 7) == b"030000\n"
    assert text.read(*tail_start(text, 45_001), 7) == b"004999\n"
    assert tail_start(text, 99_999) == (0, 0)


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


@pytest.mark.parametrize("at_once", [1, 3, 500])
def test_a_log_is_bounded_and_keeps_its_end(tmp_path: Path, at_once: int) -> None:
    """However much is written at a time."""
    log = LogFile(tmp_path / "0.log", limit=400)
    lines = [b"line %03d........\n" % number for number in range(500)]
    for start in range(0, 500, at_once):
        log.write(b"".join(lines[start : start + at_once]))
    log.finish()
    assert len(list(tmp_path.iterdir())) == LOG_PARTS
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 400
    kept = whole(log.text, log.text.oldest, 0)
    assert b"".join(lines).endswith(kept)
    assert len(kept) > 300
    assert whole(LogText.stored(tmp_path / "0.log"), 0, 0) == kept
    remove_log(tmp_path / "0.log")
    assert not list(tmp_path.iterdir())


def test_a_reader_stays_where_it_is_while_files_are_rotated(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log", limit=40)
    log.write(b"0 56789\n")
    assert log.text.read(0, 0, 100) == b"0 56789\n"
    log.write(b"1 56789\n2 56789\n")
    assert [log.text.read(number, 0, 100) for number in range(3)] == [
        b"0 56789\n",
        b"1 56789\n",
        b"2 56789\n",
    ]
    log.write(b"3 56789\n4 56789\n")
    assert log.text.oldest == 1
    assert log.text.read(0, 0, 100) == b""


def test_a_log_that_cannot_be_written_does_not_stop_the_container(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log", limit=10)
    (tmp_path / "0.log").unlink()
    log.write(b"0123456789\n")
    log.write(b"rotation finds no file\n")
    log.finish()


def test_a_log_goes_on_when_it_can_be_written_again(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "main" / "0.log", limit=40)
    log.write(b"before\n")
    (tmp_path / "main").rename(tmp_path / "away")
    log.write(b"lost....\n")
    (tmp_path / "away").rename(tmp_path / "main")
    log.write(b"after\n")
    log.finish()
    assert log.path.read_bytes() == b"after\n"


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "0.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        LogFile(tmp_path / "0.log", limit=10)
    assert (tmp_path / "precious").read_text() == "keep"
