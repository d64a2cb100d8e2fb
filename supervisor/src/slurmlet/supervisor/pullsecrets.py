"""imagePullSecrets → credentials for registries."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmlet.contracts.podproto import Plan
from slurmlet.supervisor.files import write_whole

_CONFIG = ".dockerconfigjson"
_OLD_CONFIG = ".dockercfg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """`auths` is that table of Docker's configuration: registry → base64 of USER:PASSWORD.
    `problems` are for the pod's author and hold no value."""

    auths: Mapping[str, str] = field(repr=False)
    problems: tuple[str, ...] = ()

    def config(self) -> bytes:
        """Docker's configuration; no helper programs are in it, whatever the Secrets name."""
        auths = {registry: {"auth": auth} for registry, auth in self.auths.items()}
        return json.dumps({"auths": auths}).encode()


def give_credentials(plan: Plan, path: Path) -> tuple[str, ...]:
    """Write what the pod's pull secrets give to a file, or remove it if they give nothing; return
    what is wrong with them.

    Raises:
        OSError: the file cannot be written.
    """
    found = credentials(plan)
    if found.auths:
        write_whole(path, found.config())
    else:
        path.unlink(missing_ok=True)
    return found.problems


def credentials(plan: Plan) -> Credentials:
    """What the pod's pull secrets give, the first of several for a registry."""
    auths: dict[str, str] = {}
    problems = []
    for reference in plan.pod["spec"].get("imagePullSecrets") or ():
        name = reference.get("name") or ""
        try:
            for registry, auth in _auths(plan.pull_secrets.get(name)):
                auths.setdefault(registry, auth)
        except ValueError as error:
            problems.append(f'image pull secret "{name}" {error}')
    return Credentials(auths=auths, problems=tuple(problems))


def _auths(secret: Mapping[str, str] | None) -> Iterator[tuple[str, str]]:
    if secret is None:
        raise ValueError("not found")
    key = next((key for key in (_CONFIG, _OLD_CONFIG) if key in secret), None)
    if key is None:
        raise ValueError(f"has no key {_CONFIG}; make one by kubectl create secret docker-registry")
    try:
        table: Any = json.loads(base64.b64decode(secret[key], validate=True))
        entries = table["auths"] if key == _CONFIG else table
        pairs = list(entries.items())
    except (ValueError, LookupError, TypeError, AttributeError):
        # From None and without a word of it: what cannot be read may be a password.
        raise ValueError(f"is no Docker configuration: see its key {key}") from None
    for registry, entry in pairs:
        yield registry, _auth(entry, registry=registry)


def _auth(entry: Any, *, registry: str) -> str:
    try:
        if entry.get("auth"):
            pair = base64.b64decode(entry["auth"], validate=True).decode().rstrip("\0")
        else:
            pair = f"{entry['username']}:{entry['password']}"
    except (ValueError, LookupError, TypeError, AttributeError):
        pair = ""
    if not pair.partition(":")[0]:
        raise ValueError(f"has no user and password for {registry[:100]!r}")
    return base64.b64encode(pair.encode()).decode()
