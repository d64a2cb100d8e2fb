"""`make bench-webhook`: what admission adds to requests, beside a webhook of Go that allows all."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import bed, plane
from tests.bench.figures import Figure, median, number, quantile, replace_section, table
from tests.bench.plane import SECONDS
from tests.bench.process import memory, processor
from tests.e2e.conftest import ROOT

from slurmlet.contracts.policy import Snapshot, encode
from slurmlet.controlplane.binaries import Binary
from slurmlet.controlplane.run import ControlPlane, free_ports

PAGE = ROOT / "docs" / "figures.md"
SECTION = "bench-webhook"
RATES = (50, 100, 200)
STRAIGHT_RATE, STRAIGHT_SECONDS = 500, 60
ADDED_AIM, MEMORY_AIM = 5.0, 80.0
"""Milliseconds that p99 of a request may be longer at 100 a second; MiB of the webhook."""
PROGRAM = Binary(
    name="admission", module="admission", package="slurmlet/tests/bench/admission", size_mib=10
)
REGISTERED = ",".join(
    f"{kind}{suffix}"
    for kind in ("mutating", "validating")
    for suffix in ("webhookconfigurations", "admissionpolicybindings", "admissionpolicies")
)
COMMON = {"name": "bench", "namespace": "alice"}
OBJECTS: Mapping[str, dict[str, Any]] = {
    "pods": {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**COMMON, "annotations": {"slurmlet.io/time": "30"}},
        "spec": {
            "containers": [
                {
                    "name": name,
                    "image": "registry.lab:5000/web:1.0",
                    "env": [{"name": f"V{number}", "value": "x"} for number in range(10)],
                    "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "64Mi"}},
                }
                for name in ("web", "sidecar")
            ]
        },
    },
    "services": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": COMMON,
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]},
    },
}
REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {
        "uid": "1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "alice",
        "userInfo": {"username": "alice"},
        "object": OBJECTS["pods"],
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came of requests at a rate: milliseconds from when each was due, failures, and the rate
    that was reached."""

    milliseconds: Sequence[float]
    failures: Sequence[str]
    rate: float

    @property
    def p50(self) -> float:
        return median(self.milliseconds)

    @property
    def p99(self) -> float:
        return quantile(self.milliseconds, 0.99)

    @property
    def shown(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"p50 {number(self.p50)} ms, p99 {number(self.p99)} ms{failed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """An API server, who calls it, and the program that does both load and no-op."""

    plane: ControlPlane
    program: Path
    directory: Path

    @property
    def pki(self) -> Path:
        return Path(self.plane.config.pki_dir)

    def load(self, url: str, body: object, *, rate: int, seconds: int, client: bool) -> Load:
        file = self.directory / "body.json"
        file.write_text(json.dumps(body))
        argv: list[str | Path] = [
            self.program,
            "load",
            "-url",
            url,
            "-body",
            file,
            "-ca",
            self.pki / "ca.crt",
        ]
        argv += ["-rate", str(rate), "-seconds", str(seconds)]
        if client:
            argv += ["-cert", self.pki / "admin.crt", "-key", self.pki / "admin.key"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60)
        if done.returncode != 0:
            raise SystemExit(f"{argv}: {done.stderr}")
        found = json.loads(done.stdout)
        return Load(
            milliseconds=found["milliseconds"],
            failures=found["failures"],
            rate=rate * seconds / found["seconds"],
        )

    def create(self, kind: str, *, rate: int, seconds: int) -> Load:
        """Create objects without keeping them."""
        server = f"https://127.0.0.1:{self.plane.config.secure_port}"
        url = f"{server}/api/v1/namespaces/alice/{kind}?dryRun=All"
        return self.load(url, OBJECTS[kind], rate=rate, seconds=seconds, client=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table, or writes it into docs/figures.md."""
    parser = argparse.ArgumentParser(prog="bench-webhook", description=__doc__)
    parser.add_argument("--seconds", type=int, default=15, help="of each rate (15)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/figures.md")
    given = parser.parse_args(argv)
    conditions = f"{bed.conditions()}, {given.seconds} s at each rate"
    with tempfile.TemporaryDirectory() as directory, made(Path(directory)) as found:
        figures = measure(found, seconds=given.seconds)
    text = f"{conditions}.\n\n{table(figures)}\n"
    print(text)
    if given.write:
        PAGE.write_text(replace_section(PAGE.read_text(), name=SECTION, text=text))
    return 0


@contextmanager
def made(directory: Path) -> Iterator[Bed]:
    source = Path(__file__).parent / "go"
    own = plane.ensure([PROGRAM.name], source=source, known={PROGRAM.name: PROGRAM})
    with plane.running(directory / "plane") as control:
        found = Bed(plane=control, program=own / PROGRAM.name, directory=directory)
        plane.kubectl(control, "create", "namespace", "alice")
        plane.kubectl(control, "-n", "alice", "wait", "--for=create", "serviceaccount/default")
        yield found


def measure(found: Bed, *, seconds: int) -> list[Figure]:
    runs: dict[str, dict[tuple[str, int], Load]] = {}
    runs["none"] = rates(found, seconds=seconds)
    (port,) = free_ports("127.0.0.1", 1)
    with noop(found, port=port), registered(found, port=port):
        runs["no-op"] = rates(found, seconds=seconds)
    with ours(found) as (process, port):
        with registered(found, port=port):
            before, begin = processor(process), time.monotonic()
            runs["slurmlet"] = rates(found, seconds=seconds)
            share = (processor(process) - before) / (time.monotonic() - begin)
        straight = found.load(
            f"https://127.0.0.1:{port}/mutate",
            REVIEW,
            rate=STRAIGHT_RATE,
            seconds=STRAIGHT_SECONDS,
            client=False,
        )
        mebibytes = memory(process)
        with registered(found, port=port, services="policy"):
            runs["policies"] = rates(found, seconds=seconds, kinds=("services",))
    return [*rows(runs), *own_rows(straight, share=share, mebibytes=mebibytes)]


def rates(
    found: Bed, *, seconds: int, kinds: Iterable[str] = OBJECTS
) -> dict[tuple[str, int], Load]:
    for kind in kinds:
        # The first requests open connections and fill caches.
        found.create(kind, rate=RATES[0], seconds=2)
    return {
        (kind, rate): found.create(kind, rate=rate, seconds=seconds)
        for kind in kinds
        for rate in RATES
    }


@contextmanager
def noop(found: Bed, *, port: int) -> Iterator[None]:
    argv: list[str | Path] = [found.program, "serve", "-address", f"127.0.0.1:{port}"]
    argv += ["-cert", found.pki / "webhook.crt", "-key", found.pki / "webhook.key"]
    with subprocess.Popen(argv) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def ours(found: Bed) -> Iterator[tuple[int, int]]:
    """The webhook as its unit starts it; its process and its port."""
    port, plain = free_ports("127.0.0.1", 2)
    config, policy = found.directory / "slurmlet.toml", found.directory / "policy.json"
    policy.write_text(encode(Snapshot(written=time.time())))
    config.write_text(
        f'[webhook]\naddress = "127.0.0.1"\nport = {port}\nmetrics_port = {plain}\n'
        f'serving_cert = "{found.pki}/webhook.crt"\nserving_key = "{found.pki}/webhook.key"\n'
        f'policy_file = "{policy}"\n'
    )
    argv: list[str | Path] = [sys.executable, "-m", "slurmlet.webhook", "serve", "--config", config]
    log = found.directory / "log"
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as process:
        try:
            deadline = time.monotonic() + SECONDS
            while "Listening at" not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the webhook does not start: {log.read_text()}")
                time.sleep(0.05)
            yield process.pid, port
        finally:
            process.terminate()


@contextmanager
def registered(found: Bed, *, port: int, services: str = "webhook") -> Iterator[None]:
    """Pods and Services of the API server go to a port, as our own registration sends them, or
    Services to policies."""
    argv = [sys.executable, "-m", "slurmlet.webhook", "bootstrap"]
    argv += ["--kubeconfig", str(found.plane.admin_conf), "--ca-file", str(found.pki / "ca.crt")]
    argv += ["--url", f"https://127.0.0.1:{port}", "--services", services]
    subprocess.run(argv, stdout=subprocess.DEVNULL, timeout=SECONDS, check=True)
    try:
        # The API server reads the registration within a second, and nothing tells when.
        time.sleep(3)
        yield
    finally:
        plane.kubectl(
            found.plane, "delete", REGISTERED, "-l", "app.kubernetes.io/managed-by=slurmlet"
        )


def rows(runs: Mapping[str, Mapping[tuple[str, int], Load]]) -> Iterator[Figure]:
    for (kind, rate), bare in runs["none"].items():
        what = f"create {kind}, {rate} a second"
        yield Figure(what=f"{what} (reached {bare.rate:.0f}): no webhook", value=bare.shown)
        others = ("policies",) if kind == "services" else ()
        for name in ("no-op", "slurmlet", *others):
            run = runs[name][kind, rate]
            added = run.p99 - bare.p99
            noop = runs["no-op"][kind, rate].p99 - bare.p99
            judged = name != "no-op" and rate == 100
            yield Figure(
                what=f"{what} (reached {run.rate:.0f}): {name}",
                value=f"{run.shown}: {run.p50 - bare.p50:+.2f} and {added:+.2f} ms",
                aim=f"p99 ≤ +{ADDED_AIM:g} ms" if judged else "",
                met=added <= ADDED_AIM if judged else None,
                cause=_POLICIES_CAUSE
                if name == "policies"
                else f"the no-op in Go adds {noop:.2f} ms: API server, etcd, webhook and load"
                " share two processors",
            )


_POLICIES_CAUSE = "CEL in the API server, which shares two processors with etcd and load"


def own_rows(straight: Load, *, share: float, mebibytes: tuple[float, float]) -> Iterator[Figure]:
    yield Figure(
        what=f"{STRAIGHT_RATE} reviews of pods a second straight at the webhook, for a minute"
        f" (reached {straight.rate:.0f})",
        value=f"{straight.shown}; {len(straight.failures)} of {len(straight.milliseconds)} failed",
        aim="no failure",
        met=not straight.failures,
        cause="; ".join(sorted(set(straight.failures))[:2]),
    )
    yield Figure(
        what="the webhook's processor time during the rates above",
        value=f"{share * 100:.0f} % of one processor",
    )
    shares, largest = mebibytes
    yield Figure(
        what="its memory after all of it: shared pages counted once; RSS of its larger process",
        value=f"{shares:.0f} MiB; {largest:.0f} MiB",
        aim=f"≤ {MEMORY_AIM:g} MiB",
        met=shares <= MEMORY_AIM,
    )


if __name__ == "__main__":
    sys.exit(main())
