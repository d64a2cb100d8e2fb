"""IP addresses as text. `ipaddress` would take 0.3 MiB of every pod's job for that."""

import socket

_FAMILIES = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}


def parse_address(text: str) -> tuple[str, str]:
    """nftables' word for the address's family, and the address as everybody writes it.

    Raises:
        ValueError: it is none.
    """
    for word, family in _FAMILIES.items():
        try:
            return word, socket.inet_ntop(family, socket.inet_pton(family, text))
        except (OSError, ValueError):
            continue
    raise ValueError(f"{text!r} is no IP address")


def is_loopback(text: str) -> bool:
    """Whether this is an address of the host itself; what is no address is not."""
    try:
        word, address = parse_address(text)
    except ValueError:
        return False
    return address.startswith("127.") if word == "ip" else address == "::1"
