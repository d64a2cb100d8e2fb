"""Helm 3 and 4, which tests install charts with: built from pinned modules, kept with the other
binaries. `python -m tests.tools.helm` builds what is missing."""

import functools
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from slurmlet.controlplane import build, golang
from slurmlet.controlplane.binaries import Binary

SOURCE = Path(__file__).parent / "go"
BINARIES: Mapping[str, Binary] = {
    name: Binary(name=name, module=name, package=f"helm.sh/helm/v{name[-1]}/cmd/helm", size_mib=60)
    for name in ("helm3", "helm4")
}

SECONDS = 330
"""For one command; --timeout of those that wait is 300 s."""


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


def run(
    kind: str,
    *arguments: str,
    kubeconfig: Path,
    namespace: str,
    home: Path,
    inside: Sequence[str] = (),
) -> None:
    """Run `helm 3` or `helm 4`, by the command `inside` if there is one. Its files go to `home`.

    A failure is an AssertionError that shows what it printed.
    """
    homes = ("HOME", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")
    place = [f"--kubeconfig={kubeconfig}", f"--namespace={namespace}"]
    done = subprocess.run(
        [*inside, str(program(kind)), *arguments, *place],
        env=dict.fromkeys(homes, str(home)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"helm {arguments[0]}: {done.stdout[-2000:]}"


def _report(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)


if __name__ == "__main__":
    programs()
