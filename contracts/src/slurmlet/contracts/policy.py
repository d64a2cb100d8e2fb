"""What the agent publishes of the site, so that pods are judged when they are applied as they will
be when they are submitted (docs/contracts.md, Policy snapshot)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from slurmlet.contracts import codec
from slurmlet.contracts.identity import IdentityMap
from slurmlet.contracts.names import NODE_NAME
from slurmlet.contracts.request import RequestPolicy

VERSION = 1
STALE_SECONDS = 600.0
"""The agent writes every minute; after ten without it nobody knows how large nodes are."""
MAX_BYTES = 4 * 1024 * 1024
"""Of the file; a thousand namespaces and partitions take a tenth of it."""


class PolicyError(ValueError):
    """Text that is no policy snapshot of a version that we read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSize:
    """What a job can have of one node; memory in MiB."""

    cpus: int
    memory: int
    gres: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """`written` is in seconds of Unix time. `identities` is None while the identity map cannot be
    used, `sizes` and `engines` are empty while they are not known: what is not known denies
    nothing. `sizes` has by partition those of its nodes (`size.largest_of`). `nodes` are the
    virtual nodes, by name, with the partition that each stands for, empty for the whole cluster;
    `pod_network` says whether pods have a network of their own."""

    version: int = VERSION
    written: float = 0.0
    nodes: Mapping[str, str] = field(default_factory=lambda: {NODE_NAME: ""})
    identities: IdentityMap | None = None
    sizes: Mapping[str, tuple[NodeSize, ...]] = field(default_factory=dict)
    engines: tuple[str, ...] = ()
    pod_network: bool | None = None
    request: RequestPolicy = field(default_factory=RequestPolicy)


NOTHING_KNOWN = Snapshot()


def encode(snapshot: Snapshot) -> str:
    """The text of a snapshot."""
    return json.dumps(codec.encode(snapshot), sort_keys=True) + "\n"


def decode(text: str | bytes) -> Snapshot:
    """The snapshot in a text; keys of a newer agent are ignored.

    Raises:
        PolicyError: it cannot be read.
    """
    try:
        found = codec.decode(Snapshot, json.loads(text), path="policy", unknown=[])
    except (codec.CodecError, ValueError, RecursionError) as error:
        raise PolicyError(f"no policy snapshot: {error}") from None
    if found.version != VERSION:
        raise PolicyError(f"policy.version: {found.version}; this release reads {VERSION}")
    return found


def as_of(snapshot: Snapshot, now: float) -> Snapshot:
    """What of a snapshot still counts at a time: of one that is stale, no size does."""
    if now - snapshot.written <= STALE_SECONDS:
        return snapshot
    return replace(snapshot, sizes={})
