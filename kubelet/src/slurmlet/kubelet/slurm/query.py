"""Questions to Slurm. An error means that nothing is known, never that there is nothing.

No format holds a field that a user can write (names and comments may contain newlines and would
forge lines), except the comment of one job, which is asked for alone and compared whole. What an
administrator can write stands in scontrol's words on nodes only (`inventory`).
"""

import os
import pwd
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from slurmlet.kubelet.slurm import privacy
from slurmlet.kubelet.slurm.capacity import Inventory
from slurmlet.kubelet.slurm.inventory import NODE_FIELDS, InventoryError, parse
from slurmlet.kubelet.slurm.process import CommandError, Run

JOBS_PER_CALL = 8000
"""Ids on one command line: the kernel takes arguments of up to 128 KiB."""
_MAX_JOB = 2**31 - 1
"""What squeue takes for a job id. A single number that it does not spoils the whole question."""
_UNKNOWN = "Invalid job id specified"
"""squeue, when slurmctld knows none of the jobs; of what is no id it says `Invalid job id: X`."""
_KEPT_NAME = 255
"""Bytes of a job's name that slurmdbd keeps; sacct compares whole names."""
_SQUEUE = ("squeue", "-h", "-a", "-t", "all")
"""With jobs of partitions that are hidden from the agent: it is in no group of users."""
_LIVE = "%i|%T|%U|%N|%S|%r"
_PAST = "JobIDRaw,State,ExitCode,UID,NodeList,Start"
_RELEASE = re.compile(r" (\d+\.\d+[-.+~\w]{0,40})")
LAST_START = 253_402_300_740
"""The last full minute of the year 9999, with which Python's dates end; who says `begin` may say
more."""
_EXIT = re.compile(r"(\d{1,5}):(\d{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """A job as Slurm tells it. `nodes` is the expression of its nodes, `started` seconds since
    the epoch, up to `LAST_START` (for a pending job when Slurm expects to start it), `exit_code` of
    its batch script, 128 + N after signal N; both None where Slurm does not say."""

    job_id: int
    state: str
    uid: int
    nodes: str = ""
    reason: str = ""
    started: int | None = None
    exit_code: int | None = None


class Slurm:
    """Slurm's query commands behind `run`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._hidden: str | None = None
        self._sees_all: bool | None = None

    async def settings(self) -> str:
        """What `scontrol show config` prints.

        Raises:
            CommandError: slurmctld did not answer.
        """
        return await self._run(["scontrol", "show", "config"])

    async def hidden(self, settings: str) -> str:
        """Why the jobs of users are hidden from the agent, with the remedy, or empty. While they
        are, no job that was asked for is absent: what is not seen is an error.

        Raises:
            CommandError: it is not known.
        """
        user = _own_name()
        hides = privacy.hides_jobs(settings, user=user)
        if hides:
            try:
                self._sees_all = privacy.sees_all(await self._run(privacy.level_argv(user)))
            except CommandError:
                # The accounting is away, and slurmctld goes on with what it knows.
                if self._sees_all is None:
                    self._hidden = None
                    raise
        self._hidden = privacy.problem(user) if hides and not self._sees_all else ""
        return self._hidden

    async def _known_hidden(self) -> str:
        """The last answer of `hidden`, or a first one: not to know it is not to see all."""
        if self._hidden is None:
            return await self.hidden(await self.settings())
        return self._hidden

    async def live(self, ids: Iterable[int]) -> dict[int, JobFacts]:
        """Those of the jobs that slurmctld still knows, ended ones included; what cannot be the
        number of a job is not asked for.

        Raises:
            CommandError: slurmctld did not answer, or it hides jobs and one of these was not seen.
        """
        wanted = sorted(job_id for job_id in set(ids) if 0 < job_id <= _MAX_JOB)
        found: dict[int, JobFacts] = {}
        for part in _parts(wanted):
            # squeue fails for a single unknown id, but not for one of several.
            padded = part if len(part) > 1 else part * 2
            text = ",".join(map(str, padded))
            try:
                out = await self._run([*_SQUEUE, "-j", text, "-o", _LIVE])
            except CommandError as error:
                if _UNKNOWN not in str(error):
                    raise
                continue
            found.update({job.job_id: job for job in map(_live_job, out.splitlines()) if job})
        if len(found) < len(wanted) and (hidden := await self._known_hidden()):
            raise CommandError(hidden)
        return found

    async def past(self, ids: Iterable[int]) -> dict[int, JobFacts]:
        """Those of the jobs that the accounting database knows; it may lag behind.

        Raises:
            CommandError: the database did not answer.
        """
        found: dict[int, JobFacts] = {}
        for part in _parts(sorted(set(ids))):
            text = ",".join(map(str, part))
            out = await self._run(["sacct", "-X", "-n", "-P", "-j", text, "--format", _PAST])
            found.update({job.job_id: job for job in map(_past_job, out.splitlines()) if job})
        return found

    async def named(self, *, user: str, name: str) -> list[JobFacts]:
        """The jobs of a user under a name, ended ones included, that slurmctld still knows.

        Raises:
            CommandError: slurmctld did not answer, or hides jobs.
        """
        argv = [*_SQUEUE, "-u", user, "--name", name, "-o", _LIVE]
        out = await self._run(argv)
        found = [job for job in map(_live_job, out.splitlines()) if job]
        if not found and (hidden := await self._known_hidden()):
            raise CommandError(hidden)
        return found

    async def past_named(self, *, user: str, name: str, since: int) -> list[JobFacts]:
        """The jobs of a user under a name that began after `since` (seconds since the epoch), from
        the accounting database.

        Raises:
            CommandError: the database did not answer.
        """
        start = datetime.fromtimestamp(since).strftime("%Y-%m-%dT%H:%M:%S")
        kept = name.encode()[:_KEPT_NAME].decode(errors="ignore")
        argv = ["sacct", "-X", "-n", "-P", "-u", user, "--name", kept, "-S", start]
        out = await self._run([*argv, "--format", _PAST])
        return [job for job in map(_past_job, out.splitlines()) if job]

    async def comment(self, job_id: int) -> str:
        """The comment of a job, which its owner may have edited.

        Raises:
            CommandError: slurmctld did not answer or does not know the job.
        """
        argv = [*_SQUEUE, "-j", str(job_id), "-o", "%k"]
        return (await self._run(argv)).removesuffix("\n")

    async def inventory(self, settings: str) -> Inventory:
        """All nodes that are in a partition, and all partitions, hidden ones included: an agent is
        in no group of users.

        Raises:
            CommandError: slurmctld did not answer, or nothing that can be read.
        """
        listed = await self._run(["sinfo", "-h", "-a", "-N", "-O", NODE_FIELDS])
        nodes = await self._run(["scontrol", "-a", "show", "node"])
        partitions = await self._run(["scontrol", "-a", "show", "partition"])
        try:
            return parse(listed=listed, nodes=nodes, partitions=partitions, settings=settings)
        except InventoryError as error:
            raise CommandError(str(error)) from None

    async def version(self) -> str:
        """Slurm's release, such as 24.11.5, with what its packager added.

        Raises:
            CommandError: the command does not run here, or says something else.
        """
        # Debian prints slurm-wlm before the number.
        said = await self._run(["sinfo", "-V"])
        match = _RELEASE.search(said)
        if match is None:
            raise CommandError(f"sinfo -V: no release in {said[:80]!r}")
        return match[1]


def _own_name() -> str:
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _parts(ids: Sequence[int]) -> Iterable[list[int]]:
    for start in range(0, len(ids), JOBS_PER_CALL):
        yield list(ids[start : start + JOBS_PER_CALL])


def _live_job(line: str) -> JobFacts | None:
    fields = line.split("|", 5)
    if len(fields) != 6 or not fields[0].isdecimal() or not fields[2].isdecimal():
        return None
    return JobFacts(
        job_id=int(fields[0]),
        state=fields[1],
        uid=int(fields[2]),
        nodes=_said(fields[3]),
        started=_moment(fields[4]),
        reason=_said(fields[5]),
    )


def _past_job(line: str) -> JobFacts | None:
    fields = line.split("|", 5)
    if len(fields) != 6 or not fields[0].isdecimal() or not fields[3].isdecimal():
        return None
    return JobFacts(
        job_id=int(fields[0]),
        state=fields[1],
        exit_code=_exit_code(fields[2]),
        uid=int(fields[3]),
        nodes=_said(fields[4]),
        started=_moment(fields[5]),
    )


def _said(text: str) -> str:
    return "" if text in ("(null)", "None", "None assigned", "None Assigned") else text


def _moment(text: str) -> int | None:
    if not text.isdecimal() or len(text) > len(str(LAST_START)):
        return None
    return int(text) if 0 < int(text) <= LAST_START else None


def _exit_code(text: str) -> int | None:
    match = _EXIT.fullmatch(text)
    if not match:
        return None
    code, signal = int(match[1]), int(match[2])
    return 128 + signal if signal else code
