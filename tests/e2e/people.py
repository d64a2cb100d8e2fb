"""Throw-away users, their homes and namespaces, and the identity map of a running lab."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.e2e import pods
from tests.e2e.conftest import ADMIN, Lab
from tests.e2e.pods import JOB_ID

NODES = ("ctl", "c1", "c2")
MAP = "/etc/slurmlet/identity.toml"
KEPT = "/etc/slurmlet/.identity.toml.kept"
ACCOUNT = "phys"
UNITS = ("slurmlet-kubelet", "slurmlet-broker", "slurmlet-scheduler", "slurmlet-webhook")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user on all nodes, with `home`, a shell command that makes the directory $H of the user $U
    on the nodes of `home_on`; /home is shared, what is mounted there is not. Without `account`
    Slurm does not know the user."""

    name: str
    uid: int
    shell: str = "/bin/bash"
    account: bool = True
    home: str = "install -d -o $U -m 0700 $H"
    home_on: Sequence[str] = ("ctl",)

    @property
    def path(self) -> str:
        return f"/home/{self.name}"

    def make_home(self) -> str:
        return f"U={self.name} H={self.path}\n{self.home}"


def on_nodes(lab: Lab, scripts: Mapping[str, str], *, check: bool = True) -> None:
    """Run a shell script on each of these nodes, at the same time."""

    def run(node: str) -> None:
        lab.run(node, ["sh", "-s"], input=scripts[node], check=check, timeout=120)

    with ThreadPoolExecutor(len(scripts)) as pool:
        list(pool.map(run, scripts))


def add(lab: Lab, people: Sequence[Person]) -> None:
    """Make the users, then their homes, then their accounts in Slurm."""
    users = "".join(f"useradd -o -u {p.uid} -M -d {p.path} -s {p.shell} {p.name}\n" for p in people)
    on_nodes(lab, dict.fromkeys(NODES, f"set -e\n{users}"))
    # What all nodes share is made once, before a node mounts something there.
    homes = {
        node: "set -e\n" + "\n".join(p.make_home() for p in people if node in p.home_on)
        for node in NODES
    }
    on_nodes(lab, {"ctl": homes["ctl"]})
    on_nodes(lab, {node: homes[node] for node in NODES if node != "ctl"})
    names = ",".join(p.name for p in people if p.account)
    argv = ["timeout", "60", "sacctmgr", "-i", "-Q", "add", "user", names, f"account={ACCOUNT}"]
    lab.run("ctl", argv)


def remove(lab: Lab, people: Sequence[Person]) -> None:
    """Undo `add`, as much of it as was done; jobs of these users end first."""
    names = [p.name for p in people]
    lab.run("ctl", ["timeout", "60", "scancel", "-u", ",".join(names)], check=False)
    gone = "".join(
        f"umount -l {p.path} 2>/dev/null\nuserdel -f {p.name} 2>/dev/null\n" for p in people
    )
    paths = " ".join(f"{p.path} {p.path}.real" for p in people)
    argv = ["timeout", "60", "sacctmgr", "-i", "-Q", "remove", "user", ",".join(names)]
    lab.run("ctl", argv, check=False)
    on_nodes(lab, dict.fromkeys(NODES, gone), check=False)
    lab.run("ctl", ["sh", "-c", f"rm -rf {paths}"])


def keep_map(lab: Lab) -> str:
    """Put the identity map aside, with its times, for `restore_map`; its text."""
    script = f"[ -e {KEPT} ] || cp -a {MAP} {KEPT}; cat {KEPT}"
    return lab.run("ctl", ["sh", "-c", script]).stdout


def write_map(lab: Lab, text: str, *, mode: str = "0644") -> None:
    """Replace the identity map in one step."""
    script = f"install -m {mode} /dev/stdin {MAP}.new && mv {MAP}.new {MAP}"
    lab.run("ctl", ["sh", "-c", script], input=text)


def wait_until_mapped(lab: Lab, namespace: str) -> None:
    """Until the webhook, which is told of a map within seconds, takes pods of a namespace."""
    item = json.dumps(pods.manifest("mapped", "true"))
    create = ["-n", namespace, "create", "--dry-run=server", "-f", "-"]
    pods.until(
        lambda: lab.kubectl("root", *create, input=item, check=False),
        lambda done: done.returncode == 0,
        seconds=60,
        what=f"the webhook's word for pods of {namespace}",
    )


def restore_map(lab: Lab) -> None:
    # A roll-out restarts what started before something that it reads was changed.
    lab.run("ctl", ["sh", "-c", f"[ ! -e {KEPT} ] || mv {KEPT} {MAP}"])


def add_namespaces(
    lab: Lab, names: Sequence[str], *, labels: Mapping[str, str] | None = None
) -> None:
    """Make namespaces, and wait until pods can be made in them."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": dict(labels or {})},
        }
        for name in names
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    lab.kubectl("root", "create", "-f", "-", input=text)
    argv = ["get", "serviceaccounts", "-A", "--field-selector=metadata.name=default", "-o", "json"]

    def ready() -> set[str]:
        found = json.loads(lab.kubectl("root", *argv).stdout)["items"]
        return set(names) - {item["metadata"]["namespace"] for item in found}

    pods.until(ready, lambda missing: not missing, seconds=60, what="default service accounts")


def remove_namespaces(lab: Lab, names: Sequence[str]) -> None:
    argv = ["delete", "namespace", *names, "--ignore-not-found", "--wait=false"]
    lab.kubectl("root", *argv, check=False)


def in_namespace(namespace: str, item: Mapping[str, Any]) -> dict[str, Any]:
    return {**item, "metadata": {**item["metadata"], "namespace": namespace}}


@dataclass(frozen=True, slots=True)
class Seen:
    """Pods by namespace and name, and the events of each as lines."""

    pods: Mapping[str, dict[str, Any]]
    events: Mapping[str, Sequence[str]]

    def says(self, key: str, *texts: str) -> bool:
        """Whether the pod's status has all texts, and one of its events the last of them."""
        pod = self.pods.get(key)
        return (
            pod is not None
            and all(text in words(pod) for text in texts)
            and any(texts[-1] in line for line in self.events.get(key, ()))
        )

    def about(self, key: str) -> str:
        """What there is to see of a pod, for whoever reads a failed test."""
        return "\n".join(
            [
                words(self.pods[key]) if key in self.pods else "no such pod",
                *self.events.get(key, ()),
            ]
        )


def look(lab: Lab) -> Seen:
    """All pods and events of the cluster."""
    items = json.loads(lab.kubectl("root", "get", "pods,events", "-A", "-o", "json").stdout)[
        "items"
    ]
    found = {key(item): item for item in items if item["kind"] == "Pod"}
    events: dict[str, list[str]] = {}
    for item in items:
        if item["kind"] == "Event":
            told = item["involvedObject"]
            pod = found.get(f"{told.get('namespace')}/{told['name']}")
            if pod and pod["metadata"]["uid"] == told.get("uid"):
                line = f"{item['type']} {item['reason']} {item['message']}"
                events.setdefault(key(pod), []).append(line)
    return Seen(found, events)


def wait(
    lab: Lab, key: str, good: Callable[[Seen], bool], *, seconds: float = 120
) -> dict[str, Any]:
    """The pod as soon as what is seen of it is good."""
    seen = look(lab)

    def again() -> Seen:
        nonlocal seen
        seen = look(lab)
        return seen

    try:
        if not good(seen):
            pods.until(again, good, seconds=seconds, what=key)
    except AssertionError:
        raise AssertionError(f"{key}, after {seconds} s: {seen.about(key)}") from None
    return seen.pods[key]


def is_in(key: str, *phases: str) -> Callable[[Seen], bool]:
    return lambda seen: key in seen.pods and pods.phase(seen.pods[key]) in phases


def key(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def words(pod: Mapping[str, Any]) -> str:
    """Phase, reason and message, as `kubectl describe` shows them."""
    status = pod["status"]
    found = [status.get("phase", ""), status.get("reason", ""), status.get("message", "")]
    for container in status.get("containerStatuses") or []:
        for state in container["state"].values():
            found += [state.get("reason", ""), state.get("message", "")]
    return " ".join(dict.fromkeys(item for item in found if item))


@dataclass(frozen=True, slots=True)
class Bystander:
    """A pod that runs through it all, and the processes that it depends on."""

    key: str
    job: str
    known: str

    def unharmed(self, lab: Lab) -> None:
        """An AssertionError if it, or one of our services, was touched."""
        assert _facts(lab, self.key, self.job) == self.known


def _facts(lab: Lab, key: str, job: str) -> str:
    """Of a pod: phase, restarts, job and its state; of our services: process and restarts."""
    namespace, name = key.split("/")
    job_id = JOB_ID.replace(".", "\\.")
    state = "{.status.phase} {.status.containerStatuses[*].restartCount}"
    fields = f"{state} {{.metadata.annotations.{job_id}}}"
    script = f"""
        KUBECONFIG={ADMIN} kubectl get pod {name} -n {namespace} -o jsonpath='{fields}'
        timeout 30 squeue -h -j {job} -o ' %T'
        systemctl show -p Id,MainPID,NRestarts,ActiveState {" ".join(UNITS)}"""
    return lab.run("ctl", ["sh", "-c", script]).stdout


def start_bystander(lab: Lab, name: str, *, user: str = "bob") -> Bystander:
    """Make it and wait until it runs."""
    key = f"{user}/{name}"
    pods.create(lab, pods.manifest(name, "sleep", "3600", **QUICK), user=user)
    pod = wait(lab, key, is_in(key, "Running"))
    facts = _facts(lab, key, pods.job_id(pod))
    assert facts.startswith("Running 0 "), facts
    return Bystander(key, pods.job_id(pod), facts)


QUICK: Mapping[str, Any] = {"terminationGracePeriodSeconds": 1}
