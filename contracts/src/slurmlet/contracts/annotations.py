"""What a pod's annotations ask of Slurm: typed keys, free flags, aliases (docs/contracts.md,
Annotations). Every value is checked against its own pattern, so none can become a second option."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from slurmlet.contracts.names import FLAGS_ANNOTATION, PREFIX

_WORD = r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}"
_WORDS = rf"{_WORD}(?:,{_WORD}){{0,31}}"
_COUNT = r"[1-9][0-9]{0,8}"
_MEMORY = r"[1-9][0-9]{0,11}[KMGT]?"
_TIME = r"[0-9]{1,7}(?::[0-9]{2}){0,2}|[0-9]{1,4}-[0-9]{1,2}(?::[0-9]{2}){0,2}"
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

FLAG_ALIASES = (
    "slurm.hpk.io/flags",
    "slurm-job.hpk.io/flags",
    "slurm-job.knoc.io/flags",
    "slurm-job.vk.io/flags",
)
"""Free flags under the names of other systems; read with a deprecation warning."""

MAX_FLAGS_LENGTH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Options by long name, and what to tell the user."""

    options: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def read_annotations(annotations: Mapping[str, str]) -> Asked:
    """The Slurm options that a pod's annotations ask for; typed keys win over free flags."""
    options: dict[str, str] = {}
    warnings: list[str] = []
    errors: list[str] = []
    for key in (*FLAG_ALIASES, FLAGS_ANNOTATION):
        if key not in annotations:
            continue
        if key != FLAGS_ANNOTATION:
            warnings.append(f"annotation {key} is deprecated; use {FLAGS_ANNOTATION}")
        flags, problems = _read_flags(annotations[key], key=key)
        options.update(flags)
        errors.extend(problems)
    for name in OPTIONS:
        key = PREFIX + name
        if name not in FLAGS_ONLY and key in annotations:
            problem = option_problem(name, annotations[key])
            if problem:
                errors.append(f"annotation {key}: {problem}")
            else:
                options[name] = annotations[key]
    return Asked(options=options, warnings=tuple(warnings), errors=tuple(errors))


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


def _read_flags(text: str, *, key: str) -> tuple[dict[str, str], list[str]]:
    if len(text) > MAX_FLAGS_LENGTH:
        return {}, [f"annotation {key}: longer than {MAX_FLAGS_LENGTH} characters; shorten it"]
    if any(not character.isprintable() and character not in "\t\n" for character in text):
        return {}, [f"annotation {key}: contains a control character; remove it"]
    try:
        words = shlex.split(text)
    except ValueError as error:
        return {}, [f"annotation {key}: {error}; check its quotes"]
    options: dict[str, str] = {}
    errors: list[str] = []
    queue = words[::-1]
    while queue:
        word = queue.pop()
        name, value = _split_flag(word)
        if name is None:
            errors.append(f"annotation {key}: {word[:60]!r} is no option of sbatch; remove it")
            continue
        if value is None and name in OPTIONS and not OPTIONS[name].fullmatch(""):
            if not queue:
                errors.append(f"annotation {key}: option --{name} needs a value")
                continue
            value = queue.pop()
        problem = option_problem(name, value or "")
        if problem:
            errors.append(f"annotation {key}: {problem}")
        else:
            options[name] = value or ""
    return options, errors


def _split_flag(word: str) -> tuple[str | None, str | None]:
    if word.startswith("--") and len(word) > 2:
        name, equals, value = word[2:].partition("=")
        return name, value if equals else None
    if len(word) >= 2 and word[0] == "-" and word[1] != "-":
        name = SHORT_OPTIONS.get(word[1], word[1])
        return name, word[2:].removeprefix("=") or None
    return None, None
