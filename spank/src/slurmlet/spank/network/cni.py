"""Calls of CNI plugins (containernetworking/cni, SPEC.md)."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slurmlet.spank.network import NetworkError
from slurmlet.spank.network.conf import Conf
from slurmlet.spank.network.result import Result, decoded, error_of, parse
from slurmlet.spank.process import ProcessError, run

INTERFACE = "eth0"
"""Of the sandbox's side."""
SECONDS = 15.0
"""For a whole chain; two of these and the rest stay below the plugin's patience with us."""
EXHAUSTED = "no IP addresses available"
"""Of host-local's message when a range has no free address."""


def add(conf: Conf, *, container: str, netns: Path, bin_dirs: Sequence[str]) -> Result:
    """Attach a network namespace: the result of the last plugin.

    Raises:
        NetworkError: a plugin failed, or its result is not understood; the message names it.
    """
    deadline = time.monotonic() + SECONDS
    previous: Mapping[str, Any] | None = None
    text = ""
    for plugin in conf.plugins:
        text = _call(
            "ADD", plugin, conf=conf, container=container, netns=str(netns),
            bin_dirs=bin_dirs, previous=previous, deadline=deadline,
        )  # fmt: skip
        try:
            previous = decoded(text)
        except NetworkError as error:
            raise NetworkError(f"CNI plugin {plugin['type']}: its result: {error}") from None
    try:
        return parse(text)
    except NetworkError as error:
        raise NetworkError(f"CNI plugin {conf.plugins[-1]['type']}: its result: {error}") from None


def delete(
    conf: Conf,
    *,
    container: str,
    netns: str,
    bin_dirs: Sequence[str],
    previous: Mapping[str, Any] | None,
) -> None:
    """Detach: all plugins, the last one first; an empty `netns` is one that is gone.

    Raises:
        NetworkError: a plugin failed. Those before it were not called.
    """
    deadline = time.monotonic() + SECONDS
    for plugin in reversed(conf.plugins):
        _call(
            "DEL", plugin, conf=conf, container=container, netns=netns,
            bin_dirs=bin_dirs, previous=previous, deadline=deadline,
        )  # fmt: skip


def _call(
    command: str,
    plugin: Mapping[str, Any],
    *,
    conf: Conf,
    container: str,
    netns: str,
    bin_dirs: Sequence[str],
    previous: Mapping[str, Any] | None,
    deadline: float,
) -> str:
    kind = plugin["type"]
    given = dict(plugin) | {"name": conf.name, "cniVersion": conf.version}
    if previous is not None:
        given["prevResult"] = previous
    program = next(
        (path for path in (Path(place) / kind for place in bin_dirs) if path.is_file()), None
    )
    if program is None:
        raise NetworkError(
            f"CNI plugin {kind} is in none of {', '.join(bin_dirs)} (sandbox.network.bin_dirs)"
        )
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": netns,
        "CNI_IFNAME": INTERFACE,
        "CNI_PATH": ":".join(bin_dirs),
    }
    try:
        return run(
            [str(program)],
            stdin=json.dumps(given).encode(),
            timeout=max(deadline - time.monotonic(), 0.1),
            environment=environment,
        )
    except ProcessError as error:
        said = error_of(error.output) or str(error)
        raise NetworkError(f"CNI plugin {kind}, {command}: {said}") from None
