"""Integers in labels, as Go's strconv.ParseInt reads them. Pure."""

import re

_INTEGER = re.compile(r"[+-]?[0-9]{1,80}")
_CANONICAL = re.compile(r"0|-?[1-9][0-9]{0,18}")


def int64(text: str) -> int | None:
    """The number, or None for what is none of 64 bits; Python's int() also takes blanks, `_` and
    digits of other scripts."""
    number = int(text) if _INTEGER.fullmatch(text) else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def canonical_int64(text: str) -> int | None:
    """The number if it is written without a plus and without leading zeros, else None."""
    return int64(text) if _CANONICAL.fullmatch(text) else None
