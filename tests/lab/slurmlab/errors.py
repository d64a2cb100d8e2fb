"""The one error that the command line turns into one line."""


class LabError(Exception):
    """Something the person at the keyboard can act on; its text is the whole message."""
