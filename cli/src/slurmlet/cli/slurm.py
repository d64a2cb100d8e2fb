"""What in Slurm's configuration keeps prologs from making sandboxes."""

import re

from slurmlet.cli.finding import Finding
from slurmlet.kubelet.slurm import privacy as private

_HIDING = ("JobContainerType", "JobContainerPlugin", "NamespaceType")
_NOTHING = ("", "(null)", "(none)", "none", "job_container/none")


def examine(config: str | None, *, disabled: str) -> list[Finding]:
    """`config` is what scontrol show config prints, None if slurmctld does not answer. `disabled`
    is what the plugin in slurmd said at its start, empty if it found nothing."""
    found = []
    if disabled:
        found.append(
            Finding(f"the plugin in slurmd makes no sandboxes: {disabled}; then restart slurmd")
        )
    if config is None:
        return [*found, Finding("slurmctld does not answer: see scontrol ping", problem=False)]
    flags = _setting(config, "PrologFlags").lower().split(",")
    if not {"alloc", "contain"} & set(flags):
        text = "PrologFlags lacks Contain, so a job starts before its sandbox"
        found.append(Finding(f"slurm.conf: {text}: add it and restart Slurm's daemons"))
    if "runinjob" in flags:
        text = "PrologFlags has RunInJob, so prologs are limited as jobs are"
        found.append(Finding(f"slurm.conf: {text}: remove it"))
    found += [
        Finding(f"slurm.conf: {name} is {value}, which hides the node's mounts: unset it")
        for name in _HIDING
        if (value := _setting(config, name)) not in _NOTHING
    ]
    return found


def privacy(config: str | None, *, user: str, level: str | None) -> list[Finding]:
    """The same of the control host: whether the agent's user may see the jobs of pods; `level` is
    what the accounting says of that user, None if it does not answer."""
    if config is None or not private.hides_jobs(config, user=user):
        return []
    if level is None:
        text = f"slurm.conf has PrivateData=jobs, and the AdminLevel of user {user} is not known"
        return [Finding(f"{text}: see sacctmgr ping", problem=False)]
    return [] if private.sees_all(level) else [Finding(private.problem(user))]


def _setting(config: str, name: str) -> str:
    line = re.search(rf"^{name}[ \t]*=[ \t]*(.*)$", config, re.MULTILINE)
    return line[1].strip() if line else ""
