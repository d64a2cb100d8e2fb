"""Annotations of other systems between Kubernetes and Slurm: those that mean the same here, those
that are refused, and those that have no effect (docs/contracts.md, Annotations)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

from slurmlet.contracts.names import SCHEDULER_NAME
from slurmlet.contracts.quantity import QuantityError, mib, parse

FLAG_ALIASES = (
    "slurm.hpk.io/flags",
    "slurm-job.hpk.io/flags",
    "slurm-job.knoc.io/flags",
    "slurm-job.vk.io/flags",
)
"""Free flags under the names of other systems; read with a deprecation warning."""

SCHEDULER_ALIASES = ("slurm-bridge-scheduler",)
"""Schedulers of other systems that bring pods to Slurm; read as ours with a warning."""

OUR_SCHEDULERS = ("", "default-scheduler", *SCHEDULER_ALIASES, SCHEDULER_NAME)
"""Of pods that go to Slurm: ours, those read as ours, and what nobody chose."""

SELECTOR_ALIASES: Mapping[str, str] = {"kubernetes.io/role": "agent"}
"""What virtual nodes of other systems are selected by, which no kubelet may call itself."""

BRIDGE_PREFIX = "slurmjob.slinky.slurm.net/"
"""Keys of slurm-bridge."""

REFUSED = (f"{BRIDGE_PREFIX}user-id", f"{BRIDGE_PREFIX}group-id")
"""Keys that would choose who runs the pod."""

FOREIGN: Mapping[str, str] = {
    BRIDGE_PREFIX: "slurm-bridge",
    "slinky.slurm.net/": "slurm-bridge before 1.0",
    "scheduler.slinky.slurm.net/": "slurm-bridge",
    "slurm.hpk.io/": "HPK",
    "slurm-job.hpk.io/": "HPK",
    "slurm-job.knoc.io/": "KNoC",
    "slurm-job.vk.io/": "interLink",
    "interlink.eu/": "interLink",
    "sunk.coreweave.com/": "SUNK",
    "k8s-slurm-injector/": "k8s-slurm-injector",
    "sbo.kubecluster.org/": "Slurm Bridge Operator",
    "wlm.sylabs.io/": "wlm-operator",
}
"""Prefixes and whose they are: any key below them that is no alias has no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A key that means an option of ours. `convert` makes a value of that option; None asks for
    nothing, and what cannot be converted is returned as it is, for the option's own check."""

    option: str
    convert: Callable[[str], str | None] = str.strip
    example: tuple[str, str | None] = ("", "")
    """A value, and what becomes of it."""


def _count(text: str) -> str:
    """A quantity of CPUs, of which a part is a whole one."""
    try:
        return str(max(1, ceil(parse(text.strip()))))
    except QuantityError:
        return text


def _memory(text: str) -> str:
    """A quantity of bytes."""
    try:
        return f"{max(1, mib(parse(text.strip())))}M"
    except QuantityError:
        return text


def _gres(text: str) -> str:
    """In slurmrestd's words each item is gres/NAME[:TYPE]=COUNT."""
    return ",".join(
        re.sub("=", ":", item.strip().removeprefix("gres/")) for item in text.split(",")
    )


def _most_nodes(text: str) -> str:
    """A pod runs on one node, which any bound allows."""
    word = text.strip()
    return "1" if re.fullmatch("0*[1-9][0-9]*", word) else text


def _exclusive(text: str) -> str | None:
    """Only the word false shares a node, as slurm-bridge reads it."""
    return None if text.strip().lower() == "false" else ""


ALIASES: Mapping[str, Alias] = {
    BRIDGE_PREFIX + name: alias
    for name, alias in {
        "account": Alias(option="account", example=("phys", "phys")),
        "partition": Alias(option="partition", example=("cpu", "cpu")),
        "qos": Alias(option="qos", example=("high", "high")),
        "reservation": Alias(option="reservation", example=("course", "course")),
        "timelimit": Alias(option="time", example=("30", "30")),
        "max-nodes": Alias(option="nodes", convert=_most_nodes, example=("4", "1")),
        "min-nodes": Alias(option="nodes", example=("1", "1")),
        "cpu-per-task": Alias(option="cpus-per-task", convert=_count, example=("1500m", "2")),
        "mem-per-node": Alias(option="mem", convert=_memory, example=("1Gi", "1024M")),
        "gres": Alias(option="gres", convert=_gres, example=("gres/gpu=2", "gpu:2")),
        "constraints": Alias(option="constraint", example=("skylake&ib", "skylake&ib")),
        "licenses": Alias(option="licenses", example=("matlab:2", "matlab:2")),
        "wckey": Alias(option="wckey", example=("paper7", "paper7")),
        "exclusive": Alias(option="exclusive", convert=_exclusive, example=("false", None)),
    }.items()
}
"""Typed keys of other systems; read with a deprecation warning."""


def refusals(annotations: Mapping[str, str]) -> list[str]:
    """A sentence for each key that a pod may not have."""
    return [
        f"annotation {key}: {annotations[key][:60]!r}: the administrator's identity map says which"
        " user runs the pods of a namespace; remove it"
        for key in REFUSED
        if key in annotations
    ]


def without_effect(annotations: Mapping[str, str]) -> list[str]:
    """Keys of other systems that nobody reads here, in order."""
    prefixes = tuple(FOREIGN)
    known = {*FLAG_ALIASES, *ALIASES, *REFUSED}
    return sorted(key for key in annotations if key.startswith(prefixes) and key not in known)
