"""What Slurm's refusal of a job means to the pod's author: figures and a remedy. Pure.

Slurm alone decides; what is said here of its nodes explains a refusal and causes none.
"""

from collections.abc import Mapping

from slurmlet.contracts.size import figures
from slurmlet.kubelet.slurm.capacity import Inventory, largest

_TOO_LARGE = (
    "node configuration is not available",
    "memory specification can not be satisfied",
    "invalid generic resource",
)
_SILENT = ("unable to contact", "timed out", "did not answer in time", "zero bytes")
_REMEDIES = {
    "invalid account": "choose an account of yours with the annotation slurmlet.io/account, or ask"
    " the administrator to add user {user} to one (sacctmgr add user)",
    "invalid partition": "change the annotation slurmlet.io/partition; sinfo lists partitions",
    "invalid qos": "change the annotation slurmlet.io/qos; sacctmgr show assoc lists yours",
    "time limit": "ask for less time with the annotation slurmlet.io/time",
    "reservation": "change the annotation slurmlet.io/reservation; scontrol show res lists them",
}


def explain(message: str, *, options: Mapping[str, str], user: str, inventory: Inventory) -> str:
    """Slurm's words with what was asked for, what there is, and what to do."""
    lower = message.lower()
    if any(words in lower for words in _TOO_LARGE):
        among = options.get("partition", "").split(",")
        told = figures(options, largest(inventory), among=among)
        return f"{message}; {told}" if told else message
    for words, remedy in _REMEDIES.items():
        if words in lower:
            return f"{message}; {remedy.format(user=user)}"
    return message


def unanswered(message: str) -> str:
    """What it means to a pod that is to be submitted that Slurm gave no answer but this error."""
    return f"Slurm does not answer; the pod is submitted when it does: {message}"


def is_silence(message: str) -> bool:
    """Whether sbatch says that slurmctld gave no answer."""
    return any(words in message.lower() for words in _SILENT)
