"""What the broker's tests share: an account, settings and fake Slurm commands."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurmlet.broker.config import Broker, Settings
from slurmlet.broker.policy import Account
from slurmlet.contracts.identity import Identity, IdentityMap
from slurmlet.contracts.site import Cluster

UID = "0a1b2c3d-0000-4000-8000-000000000001"
TOKEN = "5" * 64
_FOREIGN_ID = 61234
"""A uid without an entry in the password database: what root becomes in these tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One user on one site; `directory` belongs to the test and is open to the user."""

    directory: Path
    account: Account
    settings: Settings
    identities: IdentityMap

    def command(self, name: str, script: str) -> None:
        """Install a fake sbatch or scancel."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def find(self, name: str) -> Account | None:
        return self.account if name == self.account.name else None

    def load(self, _: str) -> IdentityMap:
        return self.identities


@pytest.fixture
def site() -> Iterator[Site]:
    # Not tmp_path: nobody but its owner may enter that.
    with tempfile.TemporaryDirectory(prefix="broker-") as directory:
        Path(directory).chmod(0o755)
        yield _site(Path(directory))


def _site(directory: Path) -> Site:
    root = os.geteuid() == 0
    uid = _FOREIGN_ID if root else os.getuid()
    gid = _FOREIGN_ID if root else os.getgid()
    home = directory / "home 100%j"
    home.mkdir()
    if root:
        os.chown(home, uid, gid)
    return Site(
        directory=directory,
        account=Account(
            name="alice",
            uid=uid,
            gid=gid,
            groups=(gid,) if root else tuple(os.getgroups()),
            home=str(home),
            shell="/bin/bash",
            known_as="alice",
        ),
        settings=Settings(
            cluster=Cluster(name="lab"),
            broker=Broker(
                munge="",
                sbatch=str(directory / "sbatch"),
                scancel=str(directory / "scancel"),
                squeue=str(directory / "squeue"),
                submit_timeout=5.0,
            ),
            identity_file="identity.toml",
        ),
        identities=IdentityMap(
            namespaces={"alice": Identity(user="alice", partitions=("cpu", "debug"))}
        ),
    )
