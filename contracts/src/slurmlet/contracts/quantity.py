"""Kubernetes quantities as exact integers."""

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil

_SUFFIXES = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{name: Fraction(1000**power) for power, name in enumerate("kMGTPE", start=1)},
    **{f"{name}i": Fraction(1024**power) for power, name in enumerate("KMGTPE", start=1)},
}
_QUANTITY = re.compile(
    r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:([eE][+-]?\d{1,2})|([a-zA-Z]{0,2}))", re.ASCII
)
_MAX_LENGTH = 64
MIB = 1024**2


class QuantityError(ValueError):
    """Text that is no Kubernetes quantity."""


def parse(text: str | int | float) -> Fraction:
    """The exact value of a quantity such as 500m, 1.5Gi or 2e3.

    Raises:
        QuantityError: not a quantity.
    """
    return _parse(str(text))


# Pods and nodes say the same few hundred quantities again and again.
@lru_cache(maxsize=1024)
def _parse(written: str) -> Fraction:
    match = _QUANTITY.fullmatch(written) if len(written) <= _MAX_LENGTH else None
    if not match or (match[3] or "") not in _SUFFIXES:
        raise QuantityError(f"{written[:_MAX_LENGTH]!r} is no quantity such as 500m, 2 or 1.5Gi")
    exponent = Fraction(10) ** int(match[2][1:]) if match[2] else Fraction(1)
    return Fraction(match[1]) * exponent * _SUFFIXES[match[3] or ""]


def mib(value: Fraction) -> int:
    """Bytes as whole MiB, rounded up."""
    return ceil(value / MIB)
