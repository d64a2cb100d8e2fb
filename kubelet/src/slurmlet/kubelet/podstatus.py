"""Job facts and the supervisor's report → status of the pod (docs/contracts.md, Job → pod). Pure.

The result is compared with the live object, never with what was last sent, and a phase never goes
backwards. `wanted` makes the whole status, `patch_for` what of it the live object lacks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slurmlet.contracts.names import (
    JOB_ID_ANNOTATION,
    JOB_STATE_ANNOTATION,
    NODES_ANNOTATION,
    SLURM_ENDED_REASON,
)
from slurmlet.contracts.podproto import ContainerReport, ContainerState, Status
from slurmlet.kubelet.conditions import (
    Condition,
    has_initialized,
    merge,
    standard,
    started_once,
)
from slurmlet.kubelet.pending import wait_of
from slurmlet.kubelet.slurm.query import JobFacts
from slurmlet.kubelet.slurm.states import REQUEUED, Meaning, Observation, observe

Object = dict[str, Any]

TERMINAL = ("Succeeded", "Failed")
_RANK = {"Pending": 0, "Running": 1, "Succeeded": 2, "Failed": 2}
_KILLED = 137
_NO_OUTPUT = "RaisedSignal:53"
"""slurmstepd's end of a batch script whose output file it could not open."""
_HELD = "slurmlet.io/Held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the agent knows of a pod.

    `waiting` is reason and message while there is no job that could say more; `refused` ends the
    pod for good. `report` is the newest of the supervisor, `ip` the pod's address, `host_ip` that
    of its node. `gone` says that nothing of the pod runs any more, or ever will, whatever else is
    known.
    """

    waiting: tuple[str, str] = ("ContainerCreating", "")
    refused: bool = False
    job: JobFacts | None = None
    report: Status | None = None
    ip: str = ""
    host_ip: str = ""
    gone: bool = False


def timestamp(moment: float) -> str:
    """RFC 3339 of seconds since the epoch, as Kubernetes writes times."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def phase_of(pod: Mapping[str, Any]) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def begun(pod: Mapping[str, Any], report: Status | None) -> bool:
    """Whether a container of the pod was ever started."""
    if report and any(item.state.kind != "waiting" for item in report.containers):
        return True
    live: Mapping[str, Any] = pod.get("status") or {}
    return any(
        _ran(item)
        for key in ("initContainerStatuses", "containerStatuses")
        for item in live.get(key) or []
    )


def _ran(item: Mapping[str, Any]) -> bool:
    state = item.get("state") or {}
    # What ended without a start is of a pod that went before it began.
    started = (state.get("terminated") or {}).get("startedAt")
    return bool("running" in state or started or item.get("restartCount"))


def seen_of(pod: Mapping[str, Any], job: JobFacts, report: Status | None) -> Observation:
    """What the state of its job means for this pod."""
    seen = observe(job.state)
    if seen.meaning is Meaning.WAITING and begun(pod, report):
        return REQUEUED
    return seen


def wanted(pod: Mapping[str, Any], known: Known, *, now: str) -> Object:
    """The status that the pod should have now. Conditions of others are not in it."""
    live: Mapping[str, Any] = pod.get("status") or {}
    seen = seen_of(pod, known.job, known.report) if known.job else None
    ended = known.gone or (seen is not None and seen.meaning is Meaning.ENDED)
    status = _verdict(pod, known, seen, ended=ended)
    waiting = _waiting(pod, known, seen, now=now)
    containers = _containers(pod, known, waiting, init=False)
    inits = _containers(pod, known, waiting, init=True)
    if status["phase"] in TERMINAL and (ended or _is_final(known.report)):
        code, word = _code(known, seen), _word(known, seen)
        # As with kubelet, what never had its turn goes on waiting for it.
        if has_initialized(pod["spec"], inits=inits, containers=containers):
            containers = [_terminated(item, code=code, reason=word, now=now) for item in containers]
        tried = [number for number, item in enumerate(inits) if started_once(item)]
        turns = max(tried, default=0) + 1
        inits = [
            _terminated(item, code=code, reason=word, now=now) if number < turns else item
            for number, item in enumerate(inits)
        ]
    conditions = standard(
        pod,
        phase=status["phase"],
        containers=containers,
        inits=inits,
        sandbox=known.report is not None,
        suspended=_suspended(seen),
    )
    slurm_s_doing = not _is_final(known.report) or status.get("reason") == (seen and seen.reason)
    if seen and seen.disrupted and slurm_s_doing:
        conditions.append(_flag("DisruptionTarget", seen.reason, known))
    elif status.get("reason") == REQUEUED.reason:
        conditions.append(_flag("DisruptionTarget", REQUEUED.reason, known))
    if seen and seen.reason and seen.meaning is Meaning.UNCHANGED:
        conditions.append(_flag(_HELD, seen.reason, known))
    elif any(item["type"] == _HELD for item in live.get("conditions") or []):
        conditions.append(Condition(type=_HELD, status=False))
    return {
        **status,
        **_start(live, known, seen, now=now),
        **_addresses(live, known),
        "containerStatuses": containers,
        **({"initContainerStatuses": inits} if inits else {}),
        "observedGeneration": pod["metadata"].get("generation", 1),
        "conditions": merge(live.get("conditions") or [], conditions, pod=pod, now=now),
    }


def annotations_for(job: JobFacts | None) -> dict[str, str]:
    """What the pod says about its job."""
    if job is None:
        return {}
    told = {JOB_ID_ANNOTATION: str(job.job_id)}
    if job.state:
        told[JOB_STATE_ANNOTATION] = job.state
    if job.nodes:
        told[NODES_ANNOTATION] = job.nodes
    return told


def patch_for(
    pod: Mapping[str, Any], status: Mapping[str, Any], annotations: Mapping[str, str]
) -> Object | None:
    """A strategic merge patch that makes the live pod say this, or None when it does already."""
    live: Mapping[str, Any] = pod.get("status") or {}
    before = {item["type"]: item for item in live.get("conditions") or []}
    changed = {
        key: value
        for key, value in status.items()
        if key != "conditions" and _plain(live.get(key)) != _plain(value)
    }
    conditions = [
        item
        for item in status["conditions"]
        if _plain(before.get(item["type"])) != _plain(item) or _takes_away(item, before)
    ]
    if conditions:
        changed["conditions"] = conditions
    have = pod["metadata"].get("annotations") or {}
    told = {key: value for key, value in annotations.items() if have.get(key) != value}
    if not changed and not told:
        return None
    metadata: Object = {"uid": pod["metadata"]["uid"]}
    if told:
        metadata["annotations"] = told
    return {"metadata": metadata, **({"status": changed} if changed else {})}


def _flag(kind: str, reason: str, known: Known) -> Condition:
    return Condition(type=kind, status=True, reason=reason, message=_told(known))


def _plain(value: Any) -> Any:
    """Without what the API server writes for things that are not there."""
    if isinstance(value, Mapping):
        pairs = ((key, _plain(item)) for key, item in value.items())
        return {key: item for key, item in pairs if item not in (None, "", {})}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _takes_away(item: Mapping[str, Any], before: Mapping[str, Mapping[str, Any]]) -> bool:
    old = before.get(item["type"]) or {}
    return any(old.get(key) for key, value in item.items() if value is None)


def _verdict(
    pod: Mapping[str, Any], known: Known, seen: Observation | None, *, ended: bool
) -> Object:
    """Phase, reason and message."""
    live: Mapping[str, Any] = pod.get("status") or {}
    before = phase_of(pod)
    kept = {key: live[key] for key in ("reason", "message") if live.get(key)}
    if before in TERMINAL:
        if live.get("reason") == SLURM_ENDED_REASON and seen and seen.by_slurm:
            kept = _words(seen.reason, _told(known))
        return {"phase": before, **kept}
    if known.report and known.report.final:
        phase = known.report.phase if known.report.phase in TERMINAL else "Failed"
        return {"phase": phase, **_words(known.report.reason, known.report.message)}
    if ended:
        if seen and seen.meaning is Meaning.ENDED and seen.succeeded:
            return {"phase": "Succeeded"}
        return {"phase": "Failed", **_words(_word(known, seen), _told(known))}
    if known.refused:
        return {"phase": "Failed", **_words(*known.waiting)}
    phase = before
    if known.report and _RANK.get(known.report.phase, 0) > _RANK[before]:
        phase = known.report.phase
    if seen and seen.meaning is Meaning.SUSPENDED:
        phase = "Running"
    return {"phase": phase, **kept}


def _containers(
    pod: Mapping[str, Any], known: Known, waiting: Object, *, init: bool
) -> list[Object]:
    """Container statuses as far as the job lives; the caller ends them."""
    live: Mapping[str, Any] = pod.get("status") or {}
    before = {
        item["name"]: item
        for item in live.get("initContainerStatuses" if init else "containerStatuses") or []
    }
    reports = {
        item.name: item
        for item in (known.report.containers if known.report else ())
        if item.init == init
    }
    result = []
    for spec in pod["spec"].get("initContainers" if init else "containers") or []:
        name, old = spec["name"], before.get(spec["name"])
        if phase_of(pod) in TERMINAL and old:
            result.append(old)
        elif name in reports:
            result.append(_from_report(spec, reports[name]))
        elif old and not (old.get("state") or {}).get("waiting"):
            # The agent was away; what it wrote before stays true until the supervisor is heard.
            result.append(old)
        else:
            result.append(
                {
                    "name": name,
                    "image": spec.get("image", ""),
                    "imageID": "",
                    "ready": False,
                    "started": False,
                    "restartCount": (old or {}).get("restartCount", 0),
                    "state": {"waiting": waiting},
                    "lastState": {},
                }
            )
    return result


def _from_report(spec: Mapping[str, Any], report: ContainerReport) -> Object:
    status: Object = {
        "name": report.name,
        "image": report.image or spec.get("image", ""),
        "imageID": report.image_id,
        "ready": report.ready,
        "started": report.started,
        "restartCount": report.restart_count,
        "state": _state(report.state, report.container_id),
        "lastState": _state(report.last, report.container_id) if report.last else {},
    }
    if report.container_id:
        status["containerID"] = report.container_id
    return status


def _state(state: ContainerState, container_id: str) -> Object:
    if state.kind == "running":
        return {"running": _filled(startedAt=_seconds(state.started_at))}
    if state.kind == "terminated":
        code = state.exit_code if state.exit_code is not None else _KILLED
        return {
            "terminated": {
                "exitCode": code,
                **_filled(
                    reason=state.reason or ("Completed" if code == 0 else "Error"),
                    message=state.message,
                    signal=state.signal,
                    startedAt=_seconds(state.started_at),
                    finishedAt=_seconds(state.finished_at),
                    containerID=container_id,
                ),
            }
        }
    return {"waiting": _filled(reason=state.reason, message=state.message)}


def _seconds(time: str | None) -> str | None:
    """The API keeps whole seconds; finer times would differ from the live object for ever."""
    return f"{time[:19]}Z" if time and "." in time else time


def _terminated(item: Object, *, code: int, reason: str, now: str) -> Object:
    state: Mapping[str, Any] = item.get("state") or {}
    if "terminated" in state:
        return item
    started = (state.get("running") or {}).get("startedAt")
    terminated = _filled(
        reason=reason, startedAt=started, finishedAt=now, containerID=item.get("containerID")
    )
    if reason == "ContainerStatusUnknown":
        terminated["message"] = "The job ended before the container's exit was reported"
    return {
        **item,
        "ready": False,
        "started": False,
        "state": {"terminated": {"exitCode": code, **terminated}},
    }


def _code(known: Known, seen: Observation | None) -> int:
    if seen is None or seen.meaning is not Meaning.ENDED:
        return _KILLED
    # Of a job that Slurm ended the code is Slurm's own, such as 0:125 for memory.
    if known.job and known.job.exit_code and not seen.by_slurm and not seen.succeeded:
        return known.job.exit_code
    return seen.exit_code


def _word(known: Known, seen: Observation | None) -> str:
    """Reason of the pod and of the containers that had no time to report."""
    if seen is None or seen.meaning is not Meaning.ENDED:
        return "ContainerStatusUnknown"
    return seen.reason


def _waiting(pod: Mapping[str, Any], known: Known, seen: Observation | None, *, now: str) -> Object:
    """The state of a container that nothing was heard of."""
    if known.job and seen and seen.queued:
        wait = wait_of(pod, known.job, now=datetime.fromisoformat(now).timestamp())
        return {"reason": seen.reason, "message": wait.message}
    if seen:
        return {"reason": "ContainerCreating"}
    return _filled(reason=known.waiting[0], message=known.waiting[1])


def _told(known: Known) -> str:
    if known.job is None:
        return ""
    reason = f" ({known.job.reason})" if known.job.reason else ""
    remedy = ""
    if known.job.reason.startswith(_NO_OUTPUT):
        remedy = (
            f"; node {known.job.nodes} could not open the job's files: the home directory of its"
            " user is not there, full or not writable on that node; ask the administrator"
        )
    return f"Slurm job {known.job.job_id} is {known.job.state}{reason}{remedy}"


def _start(live: Mapping[str, Any], known: Known, seen: Observation | None, *, now: str) -> Object:
    if live.get("startTime"):
        return {"startTime": live["startTime"]}
    ran = seen is not None and seen.meaning in (Meaning.RUNNING, Meaning.SUSPENDED, Meaning.ENDED)
    if ran and known.job and known.job.started and timestamp(known.job.started) <= now:
        return {"startTime": timestamp(known.job.started)}
    return {"startTime": now} if known.report else {}


def _addresses(live: Mapping[str, Any], known: Known) -> Object:
    if live.get("podIP") or not known.ip:
        return {}
    return {
        "hostIP": known.host_ip,
        "hostIPs": [{"ip": known.host_ip}],
        "podIP": known.ip,
        "podIPs": [{"ip": known.ip}],
    }


def _suspended(seen: Observation | None) -> str:
    return seen.reason if seen and seen.meaning is Meaning.SUSPENDED else ""


def _is_final(report: Status | None) -> bool:
    return report is not None and report.final


def _words(reason: str | None, message: str | None) -> Object:
    return _filled(reason=reason, message=message)


def _filled(**pairs: object) -> Object:
    return {key: value for key, value in pairs.items() if value}
