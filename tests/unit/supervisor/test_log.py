"""The job's output lies on a shared file system: exceptions are written without their words."""

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

from slurmlet.supervisor import log


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(log.Formatter("%(levelname)s %(message)s"))
    log.LOG.addHandler(handler)
    yield text
    log.LOG.removeHandler(handler)


def fail() -> None:
    try:
        raise KeyError("hunter2")
    except KeyError as error:
        raise ValueError("bad value: hunter2") from error


def test_an_exception_is_told_by_types_and_places(output: io.StringIO) -> None:
    try:
        fail()
    except ValueError:
        log.LOG.exception("the pod failed")
    text = output.getvalue()
    assert text.startswith("ERROR the pod failed\n")
    assert "ValueError" in text
    assert "KeyError" in text
    assert "in fail" in text
    assert "hunter2" not in text


async def test_what_nobody_awaits_is_told_the_same_way(output: io.StringIO) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log.forgotten)
    future = loop.create_future()
    future.set_exception(ValueError("hunter2"))
    del future
    loop.call_exception_handler({"message": "again", "exception": None})
    text = output.getvalue()
    assert "Future exception was never retrieved" in text
    assert "ValueError" in text
    assert "again" in text
    assert "hunter2" not in text
