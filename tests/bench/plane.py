"""An API server on loopback, and the programs that the benchmarks need, built if need be."""

import functools
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from slurmlet.controlplane import build, golang
from slurmlet.controlplane.binaries import CONTROL_PLANE
from slurmlet.controlplane.certificates import Request
from slurmlet.controlplane.run import ControlPlane, local_config

SECONDS = 60
"""For a process to start or kubectl to return on a machine with much else to do."""
_CACHE = build.cache_root()
ensure = functools.partial(
    build.ensure,
    cache=_CACHE,
    find_go=functools.partial(golang.find, cache=_CACHE, report=print),
    report=print,
)


@contextmanager
def running(directory: Path, *, programs: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """A control plane without fsync; `programs` lie beside its own in `config.bin_dir`."""
    config = local_config(
        directory,
        bin_dir=ensure([*CONTROL_PLANE, *programs], source=build.source_root()),
        ports=(0, 0, 0, 0),
        fsync=False,
    )
    request = Request(sans=("127.0.0.1",), nodes=("slurm",))
    with ControlPlane(config, request, report=print) as plane:
        yield plane


def kubectl(plane: ControlPlane, *arguments: str) -> None:
    """As the cluster's admin."""
    program = plane.config.bin_dir / "kubectl"
    subprocess.run(
        [program, f"--kubeconfig={plane.admin_conf}", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=SECONDS,
        check=True,
    )
