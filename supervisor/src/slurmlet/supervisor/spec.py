"""A container of the plan and its image → what an engine runs. No I/O."""

import signal
from collections.abc import Mapping
from typing import Any

from slurmlet.contracts.podproto import Plan
from slurmlet.supervisor.engines.interface import DEFAULT_CAPABILITIES, ContainerSpec, Mount
from slurmlet.supervisor.environment import expand
from slurmlet.supervisor.hostfiles import pod_names
from slurmlet.supervisor.images import Image
from slurmlet.supervisor.users import UserError, groups_of, resolve_user

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class SpecError(ValueError):
    """A container that cannot be made as asked: kubelet's CreateContainerConfigError."""


def container_spec(
    container: Mapping[str, Any],
    *,
    plan: Plan,
    image: Image,
    own: Mapping[str, str],
    mounts: tuple[Mount, ...],
    passwd: str,
    group: str,
    ids: int,
) -> ContainerSpec:
    """Merge pod and image; `own` is the container's resolved environment, `passwd` and `group` are
    the image's files, `ids` counts the mapped ids.

    Raises:
        SpecError: something refers to what does not exist.
    """
    pod_security = plan.pod["spec"].get("securityContext") or {}
    security = pod_security | (container.get("securityContext") or {})
    try:
        user = _user(security, image=image, passwd=passwd, group=group)
    except UserError as error:
        raise SpecError(str(error)) from None
    name, uid, gid, home = user
    if security.get("runAsNonRoot") and uid == 0:
        raise SpecError("container has runAsNonRoot and image will run as root")
    groups = [*groups_of(name, group=group), *(pod_security.get("supplementalGroups") or ())]
    if pod_security.get("fsGroup") is not None:
        groups.append(int(pod_security["fsGroup"]))
    if max((uid, gid)) >= ids:
        raise SpecError(
            f"user {uid}:{gid} is not among the {ids} ids of this job's user; run as root"
            " (it is that user outside), or ask the administrator for subordinate ids"
        )
    arguments = _arguments(container, image=image, known=own)
    if not arguments:
        raise SpecError("no command specified: neither the image nor the container has one")
    environment = _base_environment(plan, image=image, home=home) | dict(own)
    escalation = security.get("allowPrivilegeEscalation")
    return ContainerSpec(
        arguments=arguments,
        environment=environment,
        directory=container.get("workingDir") or image.directory or "/",
        uid=uid,
        gid=gid,
        groups=tuple(dict.fromkeys(item for item in groups if item < ids)),
        mounts=mounts,
        capabilities=_capabilities(security.get("capabilities") or {}),
        privilege_escalation=escalation is not False,
        read_only=bool(security.get("readOnlyRootFilesystem")),
        stop_signal=signal_number(image.stop_signal),
    )


def signal_number(text: str) -> int:
    """The number of an image's StopSignal; SIGTERM for what is none."""
    if text.isdecimal() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    return int(getattr(signal.Signals, name, signal.SIGTERM)) if text else int(signal.SIGTERM)


def _user(
    security: Mapping[str, Any], *, image: Image, passwd: str, group: str
) -> tuple[str, int, int, str]:
    """Name (or number), uid, gid and home directory."""
    as_user, as_group = security.get("runAsUser"), security.get("runAsGroup")
    text = image.user if as_user is None else str(as_user)
    user = resolve_user(text, passwd=passwd, group=group)
    gid = user.gid if as_group is None else int(as_group)
    return text.partition(":")[0] or "root", user.uid, gid, user.home


def _arguments(
    container: Mapping[str, Any], *, image: Image, known: Mapping[str, str]
) -> tuple[str, ...]:
    # Only the pod's own words are expanded, not the image's.
    command, arguments = (
        tuple(expand(word, known) for word in container.get(key) or ())
        for key in ("command", "args")
    )
    if command:
        return command + arguments
    return image.entrypoint + (arguments or image.command)


def _base_environment(plan: Plan, *, image: Image, home: str) -> dict[str, str]:
    hostname = pod_names(plan).kernel or plan.pod["metadata"]["name"]
    result = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, "HOME": home}
    for entry in image.environment:
        name, equals, value = entry.partition("=")
        if equals and name:
            result[name] = value
    return result


def _capabilities(asked: Mapping[str, Any]) -> tuple[str, ...]:
    added, dropped = (
        {str(name).upper().removeprefix("CAP_") for name in asked.get(key) or ()}
        for key in ("add", "drop")
    )
    base = [] if "ALL" in dropped else [name.removeprefix("CAP_") for name in DEFAULT_CAPABILITIES]
    kept = [name for name in base if name not in dropped]
    # All of them would include those over the pod's own mounts; none but the named are added.
    kept += [name for name in sorted(added - {"ALL"}) if name not in kept]
    return tuple(f"CAP_{name}" for name in kept if name.replace("_", "").isalnum())
