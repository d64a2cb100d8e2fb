"""Slurm, the API server and the broker at the seams where the agent meets them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slurmlet.common.kube import ApiError, Object, UnreachableError
from slurmlet.contracts.brokerproto import Answer, Cancel, ReadLog, Request, Submit
from slurmlet.contracts.names import job_comment, job_name
from slurmlet.kubelet.brokerclient import BrokerError
from slurmlet.kubelet.slurm.capacity import Inventory
from slurmlet.kubelet.slurm.inventory import parse
from slurmlet.kubelet.slurm.process import CommandError

UID = "11111111-2222-3333-4444-555555555555"


def pod(name: str = "web", *, uid: str = UID, **changes: Any) -> Object:
    """A bound pod of one container; `changes` go into spec, or into metadata and status."""
    metadata = {
        "name": name,
        "namespace": "alice",
        "uid": uid,
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **changes.pop("metadata", {}),
    }
    status = changes.pop("status", {"phase": "Pending"})
    spec = {
        "nodeName": "slurm",
        "restartPolicy": "Always",
        "containers": [{"name": "main", "image": "registry.lab:5000/busybox:1.37"}],
        **changes,
    }
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def details_of(listed: str) -> str:
    """What `scontrol show node` says of nodes in sinfo's lines that keep nothing from jobs."""
    rows = {row[0]: row for row in (line.split("|") for line in listed.splitlines())}
    return "".join(
        f"NodeName={name} Arch=x86_64 CoresPerSocket=1 \n"
        f"   CPUAlloc=0 CPUEfctv={row[2]} CPUTot={row[2]} CPULoad=0.00\n"
        f"   RealMemory={row[3]} AllocMem=0 FreeMem=N/A Sockets=1 Boards=1\n"
        f"   State={row[4].upper()} ThreadsPerCore=1\n\n"
        for name, row in rows.items()
    )


def limits_of(listed: str) -> str:
    """What `scontrol show partition` says of partitions in sinfo's lines that limit nothing."""
    names = dict.fromkeys(line.split("|")[1] for line in listed.splitlines())
    return "".join(
        f"PartitionName={name.removesuffix('*')}\n"
        f"   AllocNodes=ALL Default={'YES' if name.endswith('*') else 'NO'} QoS=N/A\n"
        f"   MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 MaxCPUsPerNode=UNLIMITED\n"
        f"   State=UP TotalCPUs=4\n"
        f"   DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED\n\n"
        for name in names
    )


def settings_of(memory: str = "MaxMemPerNode", limit: str = "UNLIMITED") -> str:
    """What `scontrol show config` says of a site that limits the memory of jobs so."""
    settings = {
        "DefMemPerNode": "UNLIMITED",
        "MaxArraySize": "1001",
        memory: limit,
        "MaxNodeCount": "2",
        "PrologFlags": "Alloc,Contain",
    }
    lines = [f"{name:<23} = {value}\n" for name, value in settings.items()]
    return f"Configuration data as of 2026-01-01T00:00:00\n{''.join(lines)}\n"


def inventory_of(listed: str) -> Inventory:
    """What follows from sinfo's lines alone."""
    return parse(
        listed=listed,
        nodes=details_of(listed),
        partitions=limits_of(listed),
        settings=settings_of(),
    )


@dataclass
class FakeJob:
    """A job in the fake Slurm. `forgotten` says that only the accounting knows it, `hidden` that
    its partition is hidden from who asks."""

    state: str = "PENDING"
    uid: int = 1001
    node: str = ""
    reason: str = "Priority"
    name: str = ""
    comment: str = ""
    started: int = 1_767_225_600
    exit_code: str = "0:0"
    forgotten: bool = False
    hidden: bool = False


@dataclass
class FakeSlurm:
    """Answers squeue, sacct, sinfo and scontrol as Slurm 24.11 prints them; `silent` makes them
    fail. `nodes` are sinfo's lines, `details` and `limits` scontrol's words on nodes and partitions
    where something else is needed than what follows from them, `settings` those on slurm.conf.
    `release` is what `sinfo -V` says, None that it fails; `private` is PrivateData in slurm.conf,
    `level` the AdminLevel of who asks, None that the accounting does not answer."""

    jobs: dict[int, FakeJob] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    silent: bool = False
    nodes: str = "c1|cpu*|4|8000|idle|10.77.0.11|c1|(null)|\n"
    details: str | None = None
    limits: str | None = None
    settings: str = field(default_factory=settings_of)
    release: str | None = "slurm 24.11.5\n"
    private: str = "none"
    level: str | None = "None"

    async def run(self, argv: Sequence[str]) -> str:
        self.calls.append(list(argv))
        if self.silent:
            raise CommandError(f"{argv[0]}: no answer in 30 s")
        if argv[0] == "sinfo":
            return self._version() if argv[1] == "-V" else self.nodes
        if argv[0] == "sacctmgr":
            if self.level is None:
                raise CommandError("sacctmgr: exit code 1: no slurmdbd")
            return f"{self.level}\n"
        if argv[0] == "scontrol" and argv[-1] == "node":
            return details_of(self.nodes) if self.details is None else self.details
        if argv[0] == "scontrol" and argv[-1] == "config":
            return f"{self.settings}PrivateData             = {self.private}\n"
        if argv[0] == "scontrol":
            return limits_of(self.nodes) if self.limits is None else self.limits
        malformed = [number for number in self._chosen(argv) if not 0 < number < 2**31]
        if malformed:
            raise CommandError(
                f"squeue: exit code 1: squeue: error: Invalid job id: {malformed[0]}"
            )
        known = [number for number in self._chosen(argv) if number in self.jobs]
        blind = argv[0] == "squeue" and "jobs" in self.private and self.level != "Operator"
        chosen = [] if blind else known
        if argv[0] == "sacct":
            return "".join(self._past(number) for number in chosen)
        live = [number for number in chosen if not self.jobs[number].forgotten]
        if "-j" in argv and not live:
            raise CommandError(
                "squeue: exit code 1: slurm_load_jobs error: Invalid job id specified"
            )
        if argv[-1] == "%k":
            return "".join(f"{self.jobs[number].comment}\n" for number in live)
        return "".join(self._live(number) for number in live)

    def _version(self) -> str:
        if self.release is None:
            raise CommandError("sinfo: exit code 1: ")
        return self.release

    def _chosen(self, argv: Sequence[str]) -> list[int]:
        if "-j" in argv:
            return sorted({int(word) for word in argv[list(argv).index("-j") + 1].split(",")})
        name = argv[list(argv).index("--name") + 1]
        # squeue -j shows what is hidden, --name does not (slurm, src/squeue/squeue.c).
        sees_all = argv[0] == "sacct" or "-a" in argv
        return [
            number
            for number, job in self.jobs.items()
            if job.name == name and (sees_all or not job.hidden)
        ]

    def _live(self, number: int) -> str:
        job = self.jobs[number]
        return f"{number}|{job.state}|{job.uid}|{job.node}|{job.started}|{job.reason}\n"

    def _past(self, number: int) -> str:
        job = self.jobs[number]
        return f"{number}|{job.state}|{job.exit_code}|{job.uid}|{job.node}|{job.started}\n"


def merged(live: Mapping[str, Any], patch: Mapping[str, Any]) -> Object:
    """A strategic merge, as far as it matters to pods: conditions merge by type."""
    result: Object = dict(live)
    for key, value in patch.items():
        if key == "conditions":
            rows = {item["type"]: item for item in result.get(key) or []}
            for item in value:
                rows[item["type"]] = merged(rows.get(item["type"], {}), item)
            result[key] = list(rows.values())
        elif isinstance(value, Mapping):
            result[key] = merged(result.get(key) or {}, value)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


@dataclass
class FakeApi:
    """Objects by path. `down` makes every request fail, `refuse` those whose path contains it."""

    objects: dict[str, Object] = field(default_factory=dict)
    log: list[tuple[str, str, Any]] = field(default_factory=list)
    down: bool = False
    refuse: str = "\0"

    def add(self, item: Object) -> Object:
        metadata = item["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/{item['kind'].lower()}s"
        self.objects[f"{path}/{metadata['name']}"] = item
        return item

    def _find(self, method: str, path: str, body: Any = None) -> Object:
        self.log.append((method, path, body))
        if self.down:
            raise UnreachableError("connection refused")
        if self.refuse in path:
            raise ApiError(status=500, reason="InternalError", message="refused by the test")
        found = self.objects.get(path.removesuffix("/status"))
        if found is None:
            raise ApiError(status=404, reason="NotFound", message=f"{path} not found")
        return found

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Object:
        return self._find("GET", path)

    async def list(
        self, path: str, params: Mapping[str, str] | None = None
    ) -> tuple[list[Object], str]:
        self.log.append(("LIST", path, params))
        fields = dict(part.split("=") for part in (params or {})["fieldSelector"].split(","))
        found = self.objects.get(f"{path}/{fields['metadata.name']}")
        return ([found] if found else []), "1"

    async def patch(self, path: str, body: Any, *, content_type: str = "") -> Object:
        live = self._find("PATCH", path, body)
        uid = body.get("metadata", {}).get("uid")
        if uid is not None and uid != live["metadata"]["uid"]:
            raise ApiError(status=409, reason="Conflict", message="uid")
        live.update(merged(live, json.loads(json.dumps(body))))
        return live

    async def create(self, path: str, body: Object) -> Object:
        self.log.append(("POST", path, body))
        if path.endswith("/token"):
            return {"status": {"token": "a-token"}}
        return body

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> Object:
        live = self._find("DELETE", path, grace_seconds)
        if live["metadata"]["uid"] != uid:
            raise ApiError(status=409, reason="Conflict", message="uid")
        del self.objects[path]
        return live


@dataclass
class FakeBroker:
    """Submits into a FakeSlurm. `answers` are given first; an exception among them is raised."""

    slurm: FakeSlurm
    requests: list[Request] = field(default_factory=list)
    answers: list[Answer | Exception] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    loses_answers: bool = False

    async def ask(self, request: Request) -> tuple[Answer, bytes]:
        self.requests.append(request)
        if self.answers and not isinstance(request, ReadLog):
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer, b""
        if isinstance(request, ReadLog):
            content = self.files.get(f"{request.uid}/{request.file}")
            if content is None:
                return Answer(error=f"{request.file}: No such file or directory"), b""
            part = content[request.offset : request.offset + request.limit]
            return Answer(size=len(part), total=len(content)), part
        if isinstance(request, Cancel):
            self.slurm.jobs[request.job_id].state = "CANCELLED"
            return Answer(), b""
        job_id = max(self.slurm.jobs, default=100) + 1
        self.slurm.jobs[job_id] = self._job(request)
        if self.loses_answers:
            self.loses_answers = False
            raise BrokerError("the broker did not answer in 75 s")
        return Answer(job_id=job_id), b""

    def submitted(self) -> list[Submit]:
        return [request for request in self.requests if isinstance(request, Submit)]

    def cancelled(self) -> list[int]:
        return [request.job_id for request in self.requests if isinstance(request, Cancel)]

    def _job(self, request: Submit) -> FakeJob:
        return FakeJob(
            name=job_name(uid=request.uid, namespace=request.namespace, pod=request.pod),
            comment=job_comment(
                cluster="lab",
                namespace=request.namespace,
                pod=request.pod,
                uid=request.uid,
                attempt=request.attempt,
            ),
        )
