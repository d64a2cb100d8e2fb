"""Helm 3 and 4, which tests install charts with: built from pinned modules, kept with the other
binaries. `python -m tests.tools.helm` builds what is missing."""

import functools
import sys
from collections.abc import Mapping
from pathlib import Path

from slurmlet.controlplane import build, golang
from slurmlet.controlplane.binaries import Binary

SOURCE = Path(__file__).parent / "go"
BINARIES: Mapping[str, Binary] = {
    name: Binary(name=name, module=name, package=f"helm.sh/helm/v{name[-1]}/cmd/helm", size_mib=60)
    for name in ("helm3", "helm4")
}


@functools.cache
def programs() -> Path:
    """The directory with both, built if need be: minutes, if nothing is cached."""
    cache = build.cache_root()
    return build.ensure(
        list(BINARIES),
        cache=cache,
        source=SOURCE,
        find_go=functools.partial(golang.find, cache=cache, report=_report),
        report=_report,
        known=BINARIES,
    )


def program(name: str) -> Path:
    """The binary of `helm 3` or `helm 4`."""
    return programs() / name.replace(" ", "")


def _report(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)


if __name__ == "__main__":
    programs()
