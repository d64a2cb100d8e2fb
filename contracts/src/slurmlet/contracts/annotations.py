"""What a pod's annotations ask of Slurm: typed keys, free flags, aliases (docs/contracts.md,
Annotations). Every value is checked against its own pattern, so none can become a second option."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from slurmlet.contracts.aliases import ALIASES, FLAG_ALIASES, refusals, without_effect
from slurmlet.contracts.names import (
    ENGINE_ANNOTATION,
    FLAGS_ANNOTATION,
    INIT_ANNOTATION,
    NAMESPACE_PREFIX,
    PREFIX,
)
from slurmlet.contracts.wording import MOST, several, some

_WORD = r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}"
_WORDS = rf"{_WORD}(?:,{_WORD}){{0,31}}"
_COUNT = r"[1-9][0-9]{0,8}"
_MEMORY = r"[1-9][0-9]{0,11}[KMGT]?"
_TIME = r"[0-9]{1,8}|[0-9]{1,7}(?::[0-9]{2}){1,2}|[0-9]{1,4}-[0-9]{1,2}(?::[0-9]{2}){0,2}"
_MOMENT = r"[A-Za-z0-9][A-Za-z0-9:+.-]{0,63}"
_RESOURCE = rf"{_WORD}(?:[:/=]{_WORD}){{0,3}}"
_DEPENDENCY = r"[a-z]{1,16}(?::[0-9+]{1,24}){0,16}"
_RESOURCES = rf"{_RESOURCE}(?:,{_RESOURCE}){{0,15}}"

_HOSTS = r"[A-Za-z0-9][A-Za-z0-9_.,\[\]-]{0,255}"

FLAGS_ONLY = frozenset({"exclude", "nodelist", "threads-per-core"})
"""Options of `OPTIONS` that have no typed key: only free flags may ask for them."""

OPTIONS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "account": _WORD,
        "partition": _WORDS,
        "qos": _WORD,
        "time": _TIME,
        "nodes": "1",
        "ntasks": _COUNT,
        "ntasks-per-node": _COUNT,
        "cpus-per-task": _COUNT,
        "mem": _MEMORY,
        "mem-per-cpu": _MEMORY,
        "gres": _RESOURCES,
        "gpus": _RESOURCE,
        "constraint": r"[A-Za-z0-9_(\[][A-Za-z0-9_.,&|*()\[\]-]{0,255}",
        "reservation": _WORDS,
        "licenses": _RESOURCES,
        "dependency": rf"{_DEPENDENCY}(?:[,?]{_DEPENDENCY}){{0,8}}",
        "exclusive": r"|user|mcs|topo",
        "wckey": _WORD,
        "nice": r"-?[0-9]{1,10}",
        "begin": _MOMENT,
        "deadline": _MOMENT,
        "hint": r"compute_bound|memory_bound|multithread|nomultithread",
        "mail-type": r"[A-Z][A-Z0-9_,]{0,127}",
        "exclude": _HOSTS,
        "nodelist": _HOSTS,
        "threads-per-core": _COUNT,
        "mail-user": r"[A-Za-z0-9][A-Za-z0-9_.+@-]{0,127}",
    }.items()
}
"""sbatch's long options that a pod may ask for, with what their values may look like."""

SHORT_OPTIONS: Mapping[str, str] = {
    "A": "account",
    "p": "partition",
    "q": "qos",
    "t": "time",
    "N": "nodes",
    "n": "ntasks",
    "c": "cpus-per-task",
    "G": "gpus",
    "C": "constraint",
    "L": "licenses",
    "d": "dependency",
    "b": "begin",
    "w": "nodelist",
    "x": "exclude",
}

MAX_FLAGS_LENGTH = 4096
_SETTINGS = (ENGINE_ANNOTATION, FLAGS_ANNOTATION, INIT_ANNOTATION)
KEYS = (*(PREFIX + name for name in OPTIONS if name not in FLAGS_ONLY), *_SETTINGS)
"""All keys that are read below `PREFIX`, and of a namespace below `NAMESPACE_PREFIX`."""
_KNOWN = {key.removeprefix(PREFIX) for key in KEYS}
_LISTS = frozenset({"partition", "reservation", "gres", "licenses", "mail-type", *FLAGS_ONLY})
_KIB = re.compile(r"(\d+)([KMGT]?)")
_UNITS = {"": 1024, "M": 1024, "K": 1, "G": 1024**2, "T": 1024**3}
"""KiB of sbatch's units."""
_SIZE = re.compile(r"([0-9]+)([KMGT])(?:i?B|i)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Options by long name, the annotation that each is from, and what to tell the user."""

    options: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def read_annotations(annotations: Mapping[str, str]) -> Asked:
    """The Slurm options that a pod's annotations ask for; typed keys win over free flags, and both
    over keys of other systems."""
    reader = _Reader()
    for key, alias in ALIASES.items():
        if key in annotations:
            reader.warn(f"annotation {key} is deprecated; use {PREFIX}{alias.option}")
            value = alias.convert(annotations[key])
            if value is not None:
                reader.take(key, alias.option, value)
    for key in FLAG_ALIASES:
        if key in annotations:
            reader.warn(f"annotation {key} is deprecated; use {FLAGS_ANNOTATION}")
            reader.take_flags(key, annotations[key])
    reader.take_all(annotations, prefix=PREFIX)
    reader.errors += refusals(annotations)
    foreign = without_effect(annotations)
    if foreign:
        reader.warn(
            f"annotation {several(foreign)}: of another system, has no effect here; use a key of"
            f" {PREFIX}, or remove it"
        )
    unknown = (
        f"annotation {key[:80]} is unknown and has no effect; correct or remove it"
        for key in annotations
        if key.startswith((PREFIX, NAMESPACE_PREFIX)) and key.partition("/")[2] not in _KNOWN
    )
    for warning in some(unknown):
        reader.warn(warning)
    return reader.asked()


def read_defaults(annotations: Mapping[str, str]) -> Asked:
    """The Slurm options that a pod's namespace gives it; nothing of other systems is read there."""
    reader = _Reader()
    reader.take_all(annotations, prefix=NAMESPACE_PREFIX)
    return reader.asked()


def option_problem(name: str, value: str) -> str | None:
    """Why sbatch may not be given this option with this value, or None."""
    pattern = OPTIONS.get(name)
    if pattern is None:
        return f"option --{name} is not allowed; allowed are {', '.join(OPTIONS)}"
    if not pattern.fullmatch(value):
        if name == "nodes":
            return f"value {value[:60]!r} for --nodes; a pod runs on one node, use 1"
        return f"value {value[:60]!r} is not valid for --{name}; see sbatch(1)"
    return None


def normal(name: str, value: str) -> str:
    """A value as sbatch is given it: without blanks around it or in a list, with sizes and kinds of
    mail in capitals, and with the word true for what needs no value."""
    text = value.strip()
    if name in _LISTS:
        text = ",".join(item.strip() for item in text.split(","))
    if name in ("mem", "mem-per-cpu") and (size := _SIZE.fullmatch(text)):
        return size[1] + size[2].upper()
    if name == "exclusive" and text.lower() == "true":
        return ""
    return text.upper() if name == "mail-type" else text


def meaning(name: str, value: str) -> object:
    """What tells values apart that sbatch takes for different: 4096M is 4G, 60 is 1:00:00, and no
    list but that of nodes has an order."""
    if option_problem(name, value):
        return value
    if name in ("mem", "mem-per-cpu"):
        return kib(value)
    if name == "time":
        return _minutes(value)
    return sorted(value.split(",")) if name in _LISTS - FLAGS_ONLY else value


def kib(size: str) -> int:
    """A size of sbatch's, or 0 if it is none."""
    match = _KIB.fullmatch(size)
    return int(match[1]) * _UNITS[match[2]] if match else 0


def _minutes(time: str) -> int:
    """A time of sbatch's, rounded up as Slurm does: MINUTES[:SECONDS], HOURS:MINUTES:SECONDS or
    DAYS-HOURS[:MINUTES[:SECONDS]]."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if not dash and len(parts) < 3:
        parts = [0, *parts]
    hours, minutes, seconds = (*parts, 0, 0)[:3]
    return (int(days or 0) * 24 + hours) * 60 + minutes + ceil(seconds / 60)


_NAMING = ("job-name", "J")
"""What manifests of other systems say to a user's eye only."""


class _Reader:
    """Gathers options, each from the last annotation that names it."""

    def __init__(self) -> None:
        self._options: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._warnings: list[str] = []
        self.errors: list[str] = []

    def asked(self) -> Asked:
        return Asked(
            options=self._options,
            keys=self._keys,
            warnings=tuple(self._warnings),
            errors=tuple(self.errors),
        )

    def warn(self, warning: str) -> None:
        self._warnings.append(warning)

    def take_all(self, annotations: Mapping[str, str], *, prefix: str) -> None:
        """Free flags, then typed keys, below a prefix."""
        flags = prefix + FLAGS_ANNOTATION.removeprefix(PREFIX)
        if flags in annotations:
            self.take_flags(flags, annotations[flags])
        for name in OPTIONS:
            if name not in FLAGS_ONLY and prefix + name in annotations:
                self.take(prefix + name, name, annotations[prefix + name])

    def take(self, key: str, name: str, value: str) -> None:
        value = normal(name, value)
        problem = option_problem(name, value)
        if problem:
            self.errors.append(f"annotation {key}: {problem}")
        else:
            self._options[name] = value
            self._keys[name] = key

    def take_flags(self, key: str, text: str) -> None:
        try:
            words = _words(text)
        except ValueError as error:
            self.errors.append(f"annotation {key}: {error}")
            return
        queue = words[::-1]
        most = len(self.errors) + MOST
        while queue:
            if len(self.errors) >= most:
                self.errors.append(f"annotation {key}: and more that is wrong; see sbatch(1)")
                return
            word = queue.pop()
            name, value = _split_flag(word)
            if name is None:
                self.errors.append(
                    f"annotation {key}: {word[:60]!r} is no option of sbatch; remove it"
                )
                continue
            if name in _NAMING and key in FLAG_ALIASES:
                if value is None and queue:
                    queue.pop()
                self.warn(f"annotation {key}: --job-name: a job has its pod's name; leave it out")
                continue
            if value is None and name in OPTIONS and not OPTIONS[name].fullmatch(""):
                if not queue:
                    self.errors.append(
                        f"annotation {key}: option --{name} needs a value; see sbatch(1)"
                    )
                    continue
                value = queue.pop()
            self.take(key, name, value or "")


def _words(text: str) -> list[str]:
    """Free flags as a shell would split them.

    Raises:
        ValueError: they cannot be split, with the remedy.
    """
    if len(text) > MAX_FLAGS_LENGTH:
        raise ValueError(f"longer than {MAX_FLAGS_LENGTH} characters; shorten it")
    if any(not character.isprintable() and character not in "\t\n" for character in text):
        raise ValueError("contains a control character; remove it")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{error}; check its quotes") from None


def _split_flag(word: str) -> tuple[str | None, str | None]:
    if word.startswith("--") and len(word) > 2:
        name, equals, value = word[2:].partition("=")
        return name, value if equals else None
    if len(word) >= 2 and word[0] == "-" and word[1] != "-":
        name = SHORT_OPTIONS.get(word[1], word[1])
        return name, word[2:].removeprefix("=") or None
    return None, None
