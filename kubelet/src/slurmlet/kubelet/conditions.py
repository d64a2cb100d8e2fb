"""The five standard conditions of a pod, and how they are laid over the live ones. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

_TERMINAL = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition before it has times."""

    type: str
    status: bool
    reason: str = ""
    message: str = ""


def standard(
    pod: Mapping[str, Any],
    *,
    phase: str,
    containers: Sequence[Object],
    inits: Sequence[Object],
    sandbox: bool = False,
    suspended: str = "",
) -> list[Condition]:
    """PodReadyToStartContainers, Initialized, Ready, ContainersReady and PodScheduled, with
    kubelet's reasons. `sandbox` says that containers could start, `suspended` is the reason why
    nothing of the pod runs at present."""
    spec = pod["spec"]
    initialized = _initialized(spec, phase=phase, inits=inits, containers=containers)
    containers_ready = _containers_ready(spec, phase=phase, containers=containers, inits=inits)
    if suspended:
        containers_ready = Condition(type="ContainersReady", status=False, reason=suspended)
    touched = any("waiting" not in (item.get("state") or {}) for item in (*containers, *inits))
    startable = (sandbox or touched) and phase not in _TERMINAL
    return [
        Condition(type="PodReadyToStartContainers", status=startable),
        initialized,
        _ready(pod, containers_ready),
        containers_ready,
        Condition(type="PodScheduled", status=True),
    ]


def merge(
    live: Iterable[Mapping[str, Any]],
    conditions: Iterable[Condition],
    *,
    pod: Mapping[str, Any],
    now: str,
) -> list[Object]:
    """The conditions as the API has them; a time changes only when its status does."""
    before = {item["type"]: item for item in live}
    result: list[Object] = []
    for condition in conditions:
        status = "True" if condition.status else "False"
        old = before.get(condition.type)
        changed = old is None or old.get("status") != status
        item: Object = {
            "type": condition.type,
            "status": status,
            "observedGeneration": pod["metadata"].get("generation", 1),
            "lastProbeTime": None,
            "lastTransitionTime": now if changed or old is None else old.get("lastTransitionTime"),
        }
        # A strategic merge keeps what a patch does not name: null takes an old reason away.
        for key, value in (("reason", condition.reason), ("message", condition.message)):
            if value:
                item[key] = value
            elif old and old.get(key):
                item[key] = None
        result.append(item)
    return result


def has_initialized(
    spec: Mapping[str, Any], *, inits: Sequence[Object], containers: Sequence[Object]
) -> bool:
    """Whether a container other than the init containers could ever start, as kubelet decides it:
    a sidecar that starts again takes nothing back."""
    if any(started_once(item) for item in containers):
        return True
    sidecars = _sidecars(spec)
    return all(_init_done(item, sidecars) for item in inits)


def started_once(item: Object) -> bool:
    """Whether a container, by its status, has ever run."""
    last = (item.get("lastState") or {}).get("terminated")
    return bool(last) or "waiting" not in (item.get("state") or {})


def _initialized(
    spec: Mapping[str, Any],
    *,
    phase: str,
    inits: Sequence[Object],
    containers: Sequence[Object],
) -> Condition:
    if phase == "Succeeded":
        return Condition(type="Initialized", status=True, reason="PodCompleted")
    if has_initialized(spec, inits=inits, containers=containers):
        return Condition(type="Initialized", status=True)
    sidecars = _sidecars(spec)
    undone = [item["name"] for item in inits if not _init_done(item, sidecars)]
    return Condition(
        type="Initialized",
        status=False,
        reason="ContainersNotInitialized",
        message=f"containers with incomplete status: [{' '.join(undone)}]",
    )


def _init_done(item: Object, sidecars: set[str]) -> bool:
    if item["name"] in sidecars:
        return bool(item.get("started"))
    terminated = (item.get("state") or {}).get("terminated")
    return terminated is not None and terminated.get("exitCode") == 0


def _containers_ready(
    spec: Mapping[str, Any],
    *,
    phase: str,
    containers: Sequence[Object],
    inits: Sequence[Object],
) -> Condition:
    if phase in _TERMINAL:
        return Condition(type="ContainersReady", status=False, reason=_TERMINAL[phase])
    sidecars = _sidecars(spec)
    long_lived = [*(item for item in inits if item["name"] in sidecars), *containers]
    unready = [item["name"] for item in long_lived if not item.get("ready")]
    if unready:
        return Condition(
            type="ContainersReady",
            status=False,
            reason="ContainersNotReady",
            message=f"containers with unready status: [{' '.join(unready)}]",
        )
    return Condition(type="ContainersReady", status=True)


def _ready(pod: Mapping[str, Any], containers_ready: Condition) -> Condition:
    if not containers_ready.status:
        return Condition(
            type="Ready",
            status=False,
            reason=containers_ready.reason,
            message=containers_ready.message,
        )
    live = {
        item["type"]: item.get("status")
        for item in (pod.get("status") or {}).get("conditions") or []
    }
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    closed = [gate for gate in gates if live.get(gate) != "True"]
    if closed:
        return Condition(
            type="Ready",
            status=False,
            reason="ReadinessGatesNotReady",
            message=f"corresponding condition of pod readiness gates: [{' '.join(closed)}]",
        )
    return Condition(type="Ready", status=True)


def _sidecars(spec: Mapping[str, Any]) -> set[str]:
    return {
        item["name"]
        for item in spec.get("initContainers") or []
        if item.get("restartPolicy") == "Always"
    }
