"""The one place of the agent that starts processes."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Sequence

TIMEOUT_SECONDS = 30
"""slurmctld gives up on a request after MessageTimeout, 10 s, and clients retry it."""
CONCURRENCY = 8
"""Queries at once: each costs slurmctld a thread, and sites limit requests per user."""

Run = Callable[[Sequence[str]], Awaitable[str]]


class CommandError(Exception):
    """A command that failed or was too slow; nothing is known about what it was asked. `code` is
    the one that it ended with, if it did."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Commands:
    """Runs Slurm's query commands, found in the directory `bin_dir`, and what has a path."""

    def __init__(self, bin_dir: str, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._bin_dir = bin_dir
        self._timeout = timeout
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", accepted: Collection[int] = (0,)
    ) -> str:
        """Standard output of a command.

        Raises:
            CommandError: it could not start, ended with a code that is not `accepted`, or took too
                long.
        """
        program = os.path.join(self._bin_dir, argv[0])  # noqa: PTH118 - an absolute one stays
        async with self._slots:
            try:
                process = await asyncio.create_subprocess_exec(
                    program,
                    *argv[1:],
                    stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=_environment(),
                )
            except OSError as error:
                raise CommandError(f"{program}: {error.strerror}") from None
            try:
                out, err = await asyncio.wait_for(process.communicate(stdin or None), self._timeout)
            except BaseException as error:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                if isinstance(error, TimeoutError):
                    raise CommandError(f"{argv[0]}: no answer in {self._timeout:.0f} s") from None
                raise
        code = process.returncode
        if code not in accepted:
            said = err.decode(errors="replace").strip()[-500:]
            raise CommandError(f"{argv[0]}: exit code {code}: {said}", code=code)
        return out.decode(errors="replace")


def _environment() -> dict[str, str]:
    # Inherited SLURM_* and SQUEUE_* variables would silently become options.
    kept = {name: os.environ[name] for name in ("SLURM_CONF", "PATH") if name in os.environ}
    return {"LC_ALL": "C", "SLURM_TIME_FORMAT": "%s", **kept}
