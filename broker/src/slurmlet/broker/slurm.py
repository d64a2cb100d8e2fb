"""What sbatch and scancel say, as answers. No I/O."""

import re

from slurmlet.contracts.brokerproto import Answer

MAX_MESSAGE = 500
"""Characters of Slurm's words that go into an answer, and from there into a pod's status."""

_JOB_ID = re.compile(r"(\d{1,10})(?:;[\w.-]+)?")
_PREFIX = re.compile(r"^(?:sbatch|scancel|slurm\w*): (?:error: |fatal: )?")
_FAILED = re.compile(r"^(?:Batch job submission failed|Kill job error on job id \d+): ")

# Slurm's sentences (slurm_errno.c and sbatch's own), lower case. Those that pass by themselves come
# first, because "invalid" occurs in both groups; what is in neither may pass as well.
_PASSING = (
    "authentic",
    "credential",
    "protocol version",
    "zero bytes",
    "unable to contact",
    "timed out",
    "temporarily",
    "job submit limit",
    "standby",
)
_LASTING = (
    "invalid",
    "not available",
    "not permitted",
    "access/permission denied",
    "permission denied",
    "satisfied",
    "unrecognized option",
    "requires an argument",
    "does not exist",
    "more than",
    "exceed",
    "group not",
    "ambiguous",
    "unspecified",
    "not supported",
    "incorrect",
    "unknown",
    "unable to open file",
    "no such file",
    "duplicate",
)
_GONE = ("invalid job id", "already completing or completed")


def submitted(*, code: int | None, stdout: str, stderr: str, secret: str) -> Answer:
    """The answer to a submission from how sbatch ended; `secret` is kept out of it."""
    if code is None:
        return Answer(error="sbatch did not answer in time", retry=True)
    if code != 0:
        text = sentence(stderr.replace(secret, "***")) or f"sbatch ended with code {code}"
        return Answer(error=text, retry=passing(text))
    # Sites wrap sbatch and print banners: the last line is the job id or nothing is.
    lines = stdout.strip().splitlines()
    match = _JOB_ID.fullmatch(lines[-1]) if lines else None
    if not match:
        return Answer(error="sbatch succeeded without naming a job id", retry=True)
    return Answer(job_id=int(match[1]))


def cancelled(*, code: int | None, stderr: str) -> Answer:
    """The answer to a cancellation; a job that Slurm no longer has is cancelled."""
    if code is None:
        return Answer(error="scancel did not answer in time", retry=True)
    text = sentence(stderr)
    if code == 0 or any(words in text.lower() for words in _GONE):
        return Answer()
    return Answer(error=text or f"scancel ended with code {code}", retry=passing(text))


def denied(text: str) -> bool:
    """Whether Slurm says that the job is somebody else's."""
    return "permission denied" in text.lower()


def sentence(stderr: str) -> str:
    """Slurm's complaint in one line: without program names, repetitions and odd characters."""
    parts: list[str] = []
    for line in stderr.splitlines():
        text = _FAILED.sub("", _PREFIX.sub("", line.strip()))
        text = "".join(character for character in text if character.isprintable())
        if text and text not in parts:
            parts.append(text)
    joined = "; ".join(parts)
    return joined if len(joined) <= MAX_MESSAGE else joined[: MAX_MESSAGE - 1] + "…"


def passing(text: str) -> bool:
    """Whether the same request may succeed later."""
    lower = text.lower()
    return any(words in lower for words in _PASSING) or not any(
        words in lower for words in _LASTING
    )
