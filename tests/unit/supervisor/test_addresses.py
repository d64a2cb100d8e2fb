"""Addresses are read as `ipaddress` reads them."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.supervisor.addresses import is_loopback, parse_address


@given(st.ip_addresses())
def test_an_address_is_what_the_standard_library_says(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    family, text = parse_address(address.exploded)
    assert family == {4: "ip", 6: "ip6"}[address.version]
    assert ipaddress.ip_address(text) == address


@given(st.text())
def test_what_is_none_is_refused(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        with pytest.raises(ValueError, match="no IP address"):
            parse_address(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("x", False)],
)
def test_loopback_is_known(text: str, answer: bool) -> None:
    assert is_loopback(text) is answer
