"""The one error that a user of this component sees."""


class ControlPlaneError(Exception):
    """Something outside the code is wrong; the message is one line and names the remedy."""
