"""Our first process of each container: it reaps, passes signals to the application and ends as it
does (docs/architecture.md, Life of a pod). No I/O."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slurmlet.contracts.names import ENTER, INIT_ANNOTATION, setting
from slurmlet.supervisor.engines.interface import FAILURE_FD, ContainerSpec, Mount

PATH = "/.slurmlet-init"
"""Where it lies in a container. No image has that name, and nothing is hidden by it."""


def with_init(spec: ContainerSpec, *, pod: Mapping[str, Any]) -> ContainerSpec:
    """The same container below our init, which is mounted last so that nothing lies over it; as it
    is, if its pod wants none."""
    if setting(pod["metadata"].get("annotations") or {}, INIT_ANNOTATION) == "false":
        return spec
    return replace(
        spec,
        arguments=(PATH, "--init", f"--failure={FAILURE_FD}", "--", *spec.arguments),
        mounts=(*spec.mounts, Mount(source=ENTER, target=PATH, read_only=True, directory=False)),
    )
