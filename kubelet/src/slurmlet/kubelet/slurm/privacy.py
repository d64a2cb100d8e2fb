"""Whether Slurm hides the jobs of users from others (slurm.conf, PrivateData). Pure.

A job that is hidden from who asks is an invalid job id to squeue, and so like one that is gone.
"""

import re

_PRIVATE = re.compile(r"^PrivateData[ \t]*=[ \t]*(\S+)", re.MULTILINE)
_SLURM_USER = re.compile(r"^SlurmUser[ \t]*=[ \t]*([^(\s]+)", re.MULTILINE)
_SEE_ALL = ("Operator", "Administrator")


def hides_jobs(config: str, *, user: str) -> bool:
    """Whether a user sees no job of others unless the accounting has it among those who see all; by
    what `scontrol show config` prints."""
    match, slurm = _PRIVATE.search(config), _SLURM_USER.search(config)
    private = match is not None and "jobs" in match[1].lower().split(",")
    # These see all without being in the accounting (slurmctld, validate_operator).
    return private and user not in ("root", slurm and slurm[1])


def level_argv(user: str) -> list[str]:
    """What asks the accounting for a user's AdminLevel."""
    return ["sacctmgr", "-n", "-P", "show", "user", user, "format=AdminLevel"]


def sees_all(level: str) -> bool:
    """By what `level_argv` prints: nothing for a user whom the accounting does not know."""
    return level.strip() in _SEE_ALL


def problem(user: str) -> str:
    """One line for administrators, with the remedy."""
    return (
        f"slurm.conf has PrivateData=jobs, which hides the jobs of pods from user {user}; let"
        f" it see them: sacctmgr modify user {user} set AdminLevel=Operator"
    )
