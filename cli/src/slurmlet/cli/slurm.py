"""What in Slurm's configuration keeps prologs from making sandboxes."""

import re

from slurmlet.cli.finding import Finding

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


def _setting(config: str, name: str) -> str:
    line = re.search(rf"^{name}[ \t]*=[ \t]*(.*)$", config, re.MULTILINE)
    return line[1].strip() if line else ""
