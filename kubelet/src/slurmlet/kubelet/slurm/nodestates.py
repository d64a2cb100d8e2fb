"""What the state of a node of Slurm means: whether jobs may start there, and a word for people.

States are as `sinfo -O StateComplete` prints them: a base state and flags, joined by `+`. Pure.
"""

_BUSY = frozenset({"ALLOCATED", "MIXED", "COMPLETING"})
_AWAY = frozenset(
    {"DOWN", "ERROR", "FUTURE", "UNKNOWN"}
    | {"DRAIN", "FAIL", "INVALID_REG", "MAINTENANCE", "REBOOT_ISSUED"}
)
_POWER = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "POWER_DOWN", "POWER_UP"})
_WORDS = (
    ("DOWN", "down"),
    ("FAIL", "fail"),
    ("DRAIN", "drained"),
    ("MAINTENANCE", "maint"),
    ("REBOOT_ISSUED", "reboot"),
    ("INVALID_REG", "inval"),
    ("POWERING_UP", "powering_up"),
    ("POWERING_DOWN", "powering_down"),
    ("POWERED_DOWN", "powered_down"),
    ("UNKNOWN", "unknown"),
    ("NOT_RESPONDING", "not_responding"),
    ("RESERVED", "reserved"),
    ("PLANNED", "planned"),
    ("COMPLETING", "completing"),
    ("MIXED", "mixed"),
    ("ALLOCATED", "allocated"),
    ("IDLE", "idle"),
)
"""Flag or base state → word; the first that holds says most."""


def flags_of(text: str) -> frozenset[str]:
    """Base state and flags of a state; older releases mark a silent node by `*`."""
    flags = frozenset(word for word in text.upper().replace("*", "+NOT_RESPONDING").split("+"))
    return flags - {""}


def usable(flags: frozenset[str]) -> bool:
    """Whether Slurm may start a job on a node now or as soon as others end. What Slurm has powered
    down it boots for a job; flags that are not known here keep nothing away. Nor does RESERVED,
    which every node of a reservation has, also for a few cores or for one that pods ask for."""
    if flags & _AWAY:
        return False
    # A node that boots does not answer, either (slurmctld, power_save).
    return "NOT_RESPONDING" not in flags or bool(flags & _POWER)


def word(flags: frozenset[str]) -> str:
    """One word for a state, as sinfo has it where it has one."""
    for flag, name in _WORDS:
        if flag in flags:
            return "draining" if flag == "DRAIN" and flags & _BUSY else name
    return min(flags, default="unknown").lower()
