"""The network of a sandbox: an interface from CNI, rules on the host's side, an address that rests
after use."""


class NetworkError(Exception):
    """Why a sandbox gets no network, or does not lose it; in words for its user."""
