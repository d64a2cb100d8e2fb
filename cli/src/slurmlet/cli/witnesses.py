"""Asks the journal and the accounting what they know of pods' jobs."""

import json
import re
import time
from collections.abc import Collection, Sequence

from slurmlet.cli.audit import Row
from slurmlet.cli.process import ask
from slurmlet.contracts import audit
from slurmlet.contracts.audit import Act

_UNITS = ("slurmlet-kubelet.service", "slurmlet-broker.service")
_SECONDS = 300.0
"""A journal of weeks, or the accounting of many jobs, takes long to read."""
_CHUNK = 500
"""Jobs in one question: far below the longest argument list."""
_FIELDS = "JobIDRaw,UID,User,State,Start,NodeList"
_NEVER = ("", "Unknown", "None")
_POD_JOB = re.compile(r"[0-9a-f]{8}/[a-z0-9-]+/[a-z0-9.-]+")
DAY = 86400.0


class SilentError(Exception):
    """The journal or Slurm does not answer; the message says which."""


def acts(*, days: float, further: Sequence[str] = ()) -> tuple[float, list[Act]]:
    """What the journal has of the last days, and since when (seconds since the epoch).

    `further` are units beside the usual ones.

    Raises:
        SilentError: the journal cannot be read.
    """
    since = time.time() - days * DAY
    # By these fields, which journald sets itself: nobody else's lines are among them.
    units = [word for unit in (*_UNITS, *further) for word in (f"_SYSTEMD_UNIT={unit}", "+")][:-1]
    argv = ["journalctl", "--quiet", "--all", "--output=json", "--output-fields=MESSAGE"]
    text = ask(*argv, f"--since=@{since:.0f}", *units, seconds=_SECONDS)
    if text is None:
        raise SilentError("journalctl fails: run it as root on the control host")
    return read_journal(text, since=since)


def read_journal(text: str, *, since: float) -> tuple[float, list[Act]]:
    """As `acts`, from what journalctl prints as JSON. Before the oldest line nothing is known."""
    first: float | None = None
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            message, at = entry["MESSAGE"], int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        except (ValueError, LookupError, TypeError):
            continue
        # Bytes that are no text come as a list of numbers.
        act = audit.parse(message) if isinstance(message, str) else None
        if act is not None:
            first = at if first is None else first
            found.append(act)
    return max(since, first or since), found


def rows(jobs: Collection[int]) -> dict[int, Row]:
    """What the accounting has of these jobs.

    Raises:
        SilentError: it does not answer.
    """
    numbers = sorted(jobs)
    found: dict[int, Row] = {}
    for start in range(0, len(numbers), _CHUNK):
        chosen = ",".join(str(job) for job in numbers[start : start + _CHUNK])
        found |= read_rows(_sacct("-j", chosen, "-o", _FIELDS))
    return found


def roots(*, since: float) -> list[int]:
    """Jobs of root that are called as a pod's job is.

    Raises:
        SilentError: the accounting does not answer.
    """
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
    lines = _sacct("-u", "root", "-S", moment, "-o", "JobIDRaw,JobName").splitlines()
    pairs = [line.partition("|") for line in lines]
    return [int(job) for job, _, name in pairs if job.isdecimal() and _POD_JOB.fullmatch(name)]


def read_rows(text: str) -> dict[int, Row]:
    """Rows of sacct by job. No field in them is one that a user can write."""
    found = {}
    for line in text.splitlines():
        parts: Sequence[str] = line.split("|")
        if len(parts) != len(_FIELDS.split(",")) or not parts[0].isdecimal():
            continue
        job, uid, user, state, start, nodes = parts
        found[int(job)] = Row(
            job=int(job),
            uid=int(uid) if uid.isdecimal() else -1,
            user=user,
            state=state.partition(" ")[0],
            ran=start not in _NEVER and nodes not in ("", "None assigned"),
        )
    return found


def _sacct(*options: str) -> str:
    text = ask("sacct", "-a", "-X", "-n", "-P", *options, seconds=_SECONDS)
    if text is None:
        raise SilentError("sacct fails: is slurmdbd there?")
    return text
