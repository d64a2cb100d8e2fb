"""An engine's process with its output in a container's log."""

import asyncio
import os
from collections.abc import Mapping

from slurmlet.supervisor.logs import LogFile, copy_output
from slurmlet.supervisor.process import Process, ProcessError, drain, open_null, spawn


def spawn_logged(
    arguments: list[str], *, environment: Mapping[str, str], log: LogFile
) -> tuple[Process, list[asyncio.Task[None]], asyncio.Task[bytes]]:
    """The engine's process, who copies its output, and who reads why the command cannot run.

    Raises:
        ProcessError: it cannot be started.
    """
    out, out_write = os.pipe()
    err, err_write = os.pipe()
    failure, failure_write = os.pipe()
    try:
        with open_null() as null:
            process = spawn(
                arguments,
                environment=environment,
                stdin=null,
                stdout=out_write,
                stderr=err_write,
                more=(failure_write,),
            )
    except ProcessError:
        for reader in (out, err, failure):
            os.close(reader)
        raise
    finally:
        for writer in (out_write, err_write, failure_write):
            os.close(writer)
    copies = [
        asyncio.create_task(copy_output(out, "stdout", log)),
        asyncio.create_task(copy_output(err, "stderr", log)),
    ]
    return process, copies, asyncio.create_task(drain(failure))
