"""Whether a pod can be honoured, decided before it costs Slurm anything. Pure."""

from collections.abc import Mapping
from typing import Any

from slurmlet.contracts.admission import Verdict, judge
from slurmlet.contracts.identity import IdentityMap
from slurmlet.contracts.policy import NodeSize, Snapshot
from slurmlet.contracts.request import RequestPolicy
from slurmlet.kubelet import references
from slurmlet.kubelet.references import Found


def decide(
    pod: Mapping[str, Any],
    *,
    identities: IdentityMap,
    policy: RequestPolicy,
    engines: tuple[str, ...],
    partition: str = "",
    sizes: Mapping[str, tuple[NodeSize, ...]] | None = None,
) -> Verdict:
    """Everything about a pod that can be said without asking anybody, as the webhook said it to
    the pod's author. Whether it is too large is left to Slurm, which knows its nodes, but on the
    node of a `partition`, of which `sizes` may say what its nodes have: a pod cannot go to
    another one any more."""
    return judge(
        pod["metadata"],
        pod["spec"],
        namespace=pod["metadata"]["namespace"],
        policy=Snapshot(identities=identities, engines=engines, request=policy, sizes=sizes or {}),
        partition=partition,
    )


def wait_for(pod: Mapping[str, Any], found: Found) -> tuple[str, str] | None:
    """Waiting reason and message while the first container could not start, or None."""
    volumes = references.missing(references.of_volumes(pod), found)
    if volumes:
        return "ContainerCreating", f"MountVolume.SetUp failed for {volumes[0]}"
    first = references.missing(references.of_container(references.containers(pod)[0]), found)
    if first:
        return "CreateContainerConfigError", first[0].split(": ", 1)[1]
    return None
