"""A pod that runs through what other pods suffer, and the agent beside it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.e2e import pods
from tests.e2e.conftest import Lab

SMALL = {"requests": {"cpu": "10m", "memory": "16Mi"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bystander:
    """`before` is what must not change: the agent's process, the pod's job and its container."""

    lab: Lab
    name: str
    before: tuple[str, str, str]

    def now(self) -> tuple[str, str, str]:
        return _state(self.lab, self.name)


def _state(lab: Lab, name: str) -> tuple[str, str, str]:
    argv = ["systemctl", "show", "--property=MainPID,NRestarts", "slurmlet-kubelet"]
    pod = pods.get(lab, name)
    status = pod["status"]["containerStatuses"][0]
    assert status["state"].keys() == {"running"}, status
    seen = f"{status['containerID']} started {status['state']['running']['startedAt']}"
    return lab.run("ctl", argv).stdout, pods.job_id(pod), seen


def container(name: str, *command: str, **fields: Any) -> dict[str, Any]:
    """A small container; what is None in `fields` is left out."""
    made = {"name": name, "image": pods.BUSYBOX, "command": list(command), "resources": SMALL}
    return {key: value for key, value in (made | fields).items() if value is not None}


def pod(name: str, *containers: Mapping[str, Any], engine: str = "", **spec: Any) -> dict[str, Any]:
    """A pod that is not restarted and ends at once."""
    annotations = {"slurmlet.io/engine": engine} if engine else {}
    return pods.manifest(
        name,
        annotations=annotations,
        **{"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec},
    )


@contextmanager
def created(lab: Lab, name: str, objects: Sequence[Mapping[str, Any]]) -> Iterator[Bystander]:
    """Objects of alice beside a pod `name` that runs already; all are gone afterwards."""
    kinds = {"Pod": "pod", "ConfigMap": "configmap", "Secret": "secret"}
    names = [f"{kinds[item['kind']]}/{item['metadata']['name']}" for item in objects]
    everything = [f"pod/{name}", *names]
    lab.kubectl("alice", "delete", "--ignore-not-found", "--timeout=100s", *everything)
    script = "while :; do date +%s; sleep 1; done"
    pods.create(lab, pod(name, container("main", "sh", "-c", script)))
    pods.wait_for_phase(lab, name, "Running")
    before = _state(lab, name)
    items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    lab.kubectl("alice", "create", "-f", "-", input=json.dumps(items))
    try:
        yield Bystander(lab=lab, name=name, before=before)
    finally:
        lab.kubectl("alice", "delete", "--ignore-not-found", "--wait=false", *everything)


State = tuple[str, Mapping[str, Any]]
"""Kind and content of a container's state: waiting, running or terminated."""


def states(lab: Lab, pod: str) -> dict[str, State]:
    """The states of all containers of a pod that have one."""
    status = pods.get(lab, pod)["status"]
    items = status.get("containerStatuses") or []
    return {
        item["name"]: (kind, content or {})
        for item in items
        for kind, content in (item.get("state") or {}).items()
    }


def wait_for(
    lab: Lab, pod: str, *containers: str, reason: str, seconds: float = 200
) -> dict[str, str]:
    """Wait until the states of these containers have the reason; the messages that come with it."""
    found = pods.until(
        lambda: states(lab, pod),
        lambda now: all(now.get(name, ("", {}))[1].get("reason") == reason for name in containers),
        seconds=seconds,
        what=f"{reason} of {pod}/{containers}",
    )
    return {name: str(found[name][1].get("message", "")) for name in containers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is left of a pod that has ended: its job and its containers' states."""

    job: str
    states: Mapping[str, State]


@cache
def outcome(lab: Lab, pod: str) -> Outcome:
    """Wait for a pod's end; asked for once."""
    done = pods.wait_for_phase(lab, pod, "Failed", "Succeeded", seconds=250)
    return Outcome(job=pods.job_id(done), states=states(lab, pod))


def events(lab: Lab, pod: str) -> list[tuple[str, str]]:
    """Reason and message of a pod's events, not of an earlier one's of that name."""
    fields = f"involvedObject.uid={pods.get(lab, pod)['metadata']['uid']}"
    found = lab.kubectl("alice", "get", "events", f"--field-selector={fields}", "-o", "json").stdout
    return [(item["reason"], item["message"]) for item in json.loads(found)["items"]]


def wait_for_events(
    lab: Lab, pod: str, *wanted: tuple[str, str], seconds: float = 60
) -> list[tuple[str, str]]:
    """Wait for events of these reasons, each with a text in its message; all events then. They are
    written one after the other, and later than the status."""
    return pods.until(
        lambda: events(lab, pod),
        lambda found: all(
            any(reason == has and text in said for has, said in found) for reason, text in wanted
        ),
        seconds=seconds,
        what=f"events {wanted} of {pod}",
    )


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, *, type: str = "Opaque", **data: str) -> dict[str, Any]:  # noqa: A002
    """`data` is base64."""
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "Secret", "type": type, "metadata": metadata, "data": data}
