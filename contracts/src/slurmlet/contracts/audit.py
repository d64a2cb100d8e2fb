"""Which job ran which pod, told by those who decide it (docs/contracts.md, Audit). Pure."""

import json
import re
from dataclasses import dataclass

from slurmlet.contracts.codec import CodecError, decode, encode

SUBMIT, PLAN, BYE, CANCEL = "submit", "plan", "bye", "cancel"
STARTED = "audit container %s: start %d"
"""What a supervisor writes into its job's output, before each start: the container's name, and
the number of the start from 0 on."""

_REASON = 200
"""Characters of a reason: enough for a sentence, far below the length at which journald splits."""
_LINE = re.compile(r"INFO (?:slurmlet\.[a-z.]+: )?audit (\{.*\})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that was done with a job. `what`: SUBMIT and CANCEL are the broker's and say that
    Slurm did it, PLAN and BYE are the agent's and say what a supervisor is told next. `pod` is
    NAMESPACE/NAME, `uid` the pod's."""

    what: str
    job: int
    pod: str = ""
    uid: str = ""
    user: str = ""
    reason: str = ""


def line(act: Act) -> str:
    """The message to log at level INFO; one line whatever the reason holds."""
    known = {key: value for key, value in encode(act).items() if value != ""}
    if act.reason:
        known["reason"] = act.reason[:_REASON]
    return f"audit {json.dumps(known)}"


def parse(text: str) -> Act | None:
    """The act in a line of the journal; None for any other line."""
    found = _LINE.fullmatch(text)
    if found is None:
        return None
    try:
        return decode(Act, json.loads(found[1]), path="audit", unknown=[])
    except (ValueError, CodecError):
        return None
