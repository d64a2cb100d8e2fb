"""Whether a pod can be honoured, decided before it costs Slurm anything. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slurmlet.contracts.identity import IdentityError, IdentityMap, allowed, permitted
from slurmlet.contracts.names import ENGINE_ANNOTATION, INIT_ANNOTATION, INIT_VALUES
from slurmlet.contracts.request import RequestPolicy, translate
from slurmlet.kubelet import references
from slurmlet.kubelet.references import Found

_VOLUMES = frozenset({"name", "emptyDir", "configMap", "secret", "projected", "downwardAPI"})
_PROJECTIONS = frozenset({"configMap", "secret", "downwardAPI", "serviceAccountToken"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`errors` refuse the pod, all of them at once; `options` are sbatch's."""

    user: str = ""
    engine: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def decide(
    pod: Mapping[str, Any],
    *,
    identities: IdentityMap,
    policy: RequestPolicy,
    engines: tuple[str, ...],
) -> Decision:
    """Everything about a pod that can be said without asking anybody."""
    errors = unsupported(pod)
    translation = translate(pod, policy)
    errors += translation.errors
    annotations = pod["metadata"].get("annotations") or {}
    engine = annotations.get(ENGINE_ANNOTATION, engines[0])
    if engine not in engines:
        errors.append(
            f"annotation {ENGINE_ANNOTATION}: {engine[:40]!r} is not installed here;"
            f" use {' or '.join(engines)}"
        )
    init = annotations.get(INIT_ANNOTATION, INIT_VALUES[0])
    if init not in INIT_VALUES:
        errors.append(
            f"annotation {INIT_ANNOTATION}: {init[:40]!r} is no choice;"
            f" use {' or '.join(INIT_VALUES)}"
        )
    user = ""
    try:
        identity = identities.lookup(pod["metadata"]["namespace"])
        user = identity.user
        for option in ("account", "partition", "qos"):
            value = translation.options.get(option)
            if value is not None and not permitted(identity, option, value):
                use = ", ".join(allowed(identity, option))
                errors.append(f"{option} {value!r} is not permitted to this namespace; use {use}")
    except IdentityError as error:
        errors.append(str(error))
    return Decision(
        user=user,
        engine=engine,
        options=translation.options,
        warnings=translation.warnings,
        errors=tuple(errors),
    )


def unsupported(pod: Mapping[str, Any]) -> list[str]:
    """Fields that would change what the pod does and cannot be honoured."""
    spec = pod["spec"]
    found = [f"spec.{name}" for name in ("hostPID", "hostIPC") if spec.get(name)]
    if spec.get("resourceClaims"):
        found.append("spec.resourceClaims")
    if (spec.get("os") or {}).get("name") == "windows":
        found.append("spec.os.name windows")
    for volume in spec.get("volumes") or []:
        place = f"spec.volumes[{volume['name']}]"
        found += [f"{place}.{kind}" for kind in sorted(set(volume) - _VOLUMES)]
        for source in (volume.get("projected") or {}).get("sources") or []:
            found += [f"{place}.projected.{kind}" for kind in sorted(set(source) - _PROJECTIONS)]
    for container in references.containers(pod):
        place = f"spec.containers[{container['name']}]"
        if (container.get("securityContext") or {}).get("privileged"):
            found.append(f"{place}.securityContext.privileged")
        if container.get("volumeDevices"):
            found.append(f"{place}.volumeDevices")
        found += [f"{place}.{name}" for name in _own_restarts(container, spec)]
    return [f"{place} is not supported on a Slurm node" for place in found]


def _own_restarts(container: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """Fields by which a container wants to restart differently from its pod; sidecars may."""
    found = ["restartPolicyRules"] if container.get("restartPolicyRules") else []
    own = container.get("restartPolicy")
    sidecar = own == "Always" and container in (spec.get("initContainers") or ())
    if own and not sidecar and own != spec.get("restartPolicy", "Always"):
        found.append(f"restartPolicy {own}")
    return found


def wait_for(pod: Mapping[str, Any], found: Found) -> tuple[str, str] | None:
    """Waiting reason and message while the first container could not start, or None."""
    volumes = references.missing(references.of_volumes(pod), found)
    if volumes:
        return "ContainerCreating", f"MountVolume.SetUp failed for {volumes[0]}"
    first = references.missing(references.of_container(references.containers(pod)[0]), found)
    if first:
        return "CreateContainerConfigError", first[0].split(": ", 1)[1]
    return None
