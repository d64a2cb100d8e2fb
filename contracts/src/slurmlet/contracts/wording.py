"""Sentences about many things at once, of bounded length. Pure."""

import re
from collections.abc import Iterable, Sequence

MOST = 8
"""Sentences of one kind in one answer: nobody reads thousands, and each may become an event."""
NAMED = 5
"""Things that one sentence names: of a warning kubectl shows 256 characters where there are many,
and an object may have thousands of each."""
_MORE = re.compile(r" and [0-9]+ more$")
LONGEST = 160
"""Characters of one: more than the path of any field in a container of the longest name."""


def several(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    shown = ", ".join(name[:LONGEST] for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def some(texts: Iterable[str]) -> list[str]:
    """The first of these sentences, and how many more there are."""
    texts = list(texts)
    more = len(texts) - MOST
    return texts if more <= 0 else [*texts[:MOST], f"and {more} more"]


def is_shortened(text: str) -> bool:
    """Whether `several` left names out."""
    return bool(_MORE.search(text))


def named(text: str) -> set[str]:
    """The names that `several` shows."""
    return set(_MORE.sub("", text).split(", "))


def in_one(errors: Sequence[str]) -> str:
    """All reasons in one message; each has its remedy behind a semicolon, so more are numbered."""
    if len(errors) < 2:
        return "".join(errors)
    return "; ".join(f"({number}) {error}" for number, error in enumerate(errors, start=1))
