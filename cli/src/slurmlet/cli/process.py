"""The one place of the command that starts programs: questions to what a node has."""

import os
import subprocess

SECONDS = 12
"""slurmctld gives up on a request after 10 s; showmount asks a portmapper that may be silent."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ask(*argv: str, seconds: float = SECONDS) -> str | None:
    """What a program prints; None if it is not there, fails, or is silent for too long."""
    kept = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env={"PATH": os.environ.get("PATH", _PATH) + ":/usr/sbin:/sbin", "LC_ALL": "C", **kept},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
