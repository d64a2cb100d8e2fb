"""How long a pod rests after an attempt that failed. Pure."""

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 10.0
"""As kube-scheduler's podInitialBackoffSeconds and podMaxBackoffSeconds."""


def backoff(failures: int) -> float:
    """Seconds after so many failures in a row, at least one."""
    return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 10))
