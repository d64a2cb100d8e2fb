from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.quantity import QuantityError, mib, parse

SUFFIXES: dict[str, int | Fraction] = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", Fraction(1, 2)),
        ("2", Fraction(2)),
        (2, Fraction(2)),
        (0.5, Fraction(1, 2)),
        ("0.1", Fraction(1, 10)),
        (".5", Fraction(1, 2)),
        ("1.", Fraction(1)),
        ("+1", Fraction(1)),
        ("-1", Fraction(-1)),
        ("1.5Gi", Fraction(3 * 2**29)),
        ("128M", Fraction(128_000_000)),
        ("2e3", Fraction(2000)),
        ("2E3", Fraction(2000)),
        ("1E", Fraction(10**18)),
        ("1e-3", Fraction(1, 1000)),
        ("100n", Fraction(1, 10**7)),
    ],
)
def test_quantities_of_kubernetes(text: str | int | float, value: Fraction) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "one",
        "1g",
        "1K",
        "1ki",
        "1Mib",
        "0x1",
        "1_0",
        "1e",
        "1e1000",
        "\u0661",
        "NaN",
        "inf",
        "--1",
        "1\n",
        "1" * 65,
        "9" * 100_000,
    ],
)
def test_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(QuantityError, match=r"1\.5Gi"):
        parse(text)


@given(
    st.decimals(min_value=-(10**9), max_value=10**9, places=3), st.sampled_from(sorted(SUFFIXES))
)
def test_no_digit_is_lost(number: Decimal, suffix: str) -> None:
    assert parse(f"{number:f}{suffix}") == Fraction(number) * SUFFIXES[suffix]


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    try:
        assert isinstance(parse(text), Fraction)
    except QuantityError as error:
        assert repr(text) in str(error)


@given(st.integers(0, 2**50))
def test_mebibytes_are_never_rounded_down(size: int) -> None:
    assert 0 <= mib(Fraction(size)) * 2**20 - size < 2**20
