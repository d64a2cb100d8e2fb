"""Why a job waits: from what Slurm says to plain words. Pure.

Slurm has a word for each reason, and for some says a sentence instead. Limits of accounts and QOS
have words made of parts, `QOSMaxCpuPerUserLimit`: those are read by `_LIMIT`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from slurmlet.kubelet.slurm.reasontable import LIMITS, RESOURCES, SENTENCES, TABLE, Reason

MAX_SAID = 300
"""Characters of Slurm's own words that are shown: lists of nodes and what scripts of the site say
have any length."""
MAX_NAME = 64
"""Characters of the name of a QOS or partition that are shown."""

_LIMIT = re.compile(
    rf"(Assoc|QOS|)(Grp|Max|Min)({'|'.join(sorted(RESOURCES, key=len, reverse=True))})"
    r"(RunMin(?:ute)?s|Minutes|)(PerJob|PerNode|PerUser|PerAccount|)(?:Limit|NotSatisfied|)"
)

_SENTENCES = tuple(
    (re.compile(re.escape(start).replace("…", ".*")), reason) for start, reason in SENTENCES.items()
)


def said(text: str) -> str:
    """Slurm's words on one line without odd characters, at most MAX_SAID long."""
    return _clipped(text, MAX_SAID)


def reason_of(text: str) -> Reason | None:
    """What the text that squeue prints as a job's reason means; None for what is not known."""
    words = said(text)
    for pattern, reason in _SENTENCES:
        if pattern.match(words):
            return reason
    word = re.split(r"[,:( ]", words, maxsplit=1)[0]
    return TABLE.get(word) or _limit(word)


def explain(text: str, *, asked: Mapping[str, str]) -> str:
    """Slurm's words, what they mean and what happens then: one line of bounded length.

    `asked` are the options of sbatch that the job was submitted with.
    """
    words = said(text)
    reason = reason_of(words)
    if reason is None:
        return words
    qos, partition = (_clipped(asked.get(key, ""), MAX_NAME) for key in ("qos", "partition"))
    names = {
        "qos": f"QOS {qos}" if qos else "its QOS",
        "partition": f"partition {partition}" if partition else "its partition",
    }
    return f"{words}: {reason.means.format(**names)}; {reason.then}"


def family(word: str) -> str:
    """The family of LIMITS that a word is of, or an empty text."""
    match = _LIMIT.fullmatch(word)
    shape = match[2] + match[4].replace("Mins", "Minutes") + match[5] if match else ""
    return shape if shape in LIMITS else ""


def _limit(word: str) -> Reason | None:
    match, reason = _LIMIT.fullmatch(word), LIMITS.get(family(word))
    if match is None or reason is None:
        return None
    owner = "your account" if match[1] == "Assoc" else "{qos}"
    means = reason.means.replace("{what}", RESOURCES[match[3]]).replace("{whose}", owner)
    return replace(reason, means=means)


def _clipped(text: str, limit: int) -> str:
    # Ends of lines are not printable, nor is what turns the direction of writing.
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
