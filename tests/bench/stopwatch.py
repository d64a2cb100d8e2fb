"""Runs on the login node as the pods' user: starts jobs and pods and notes when what happens.

    python3 -c SOURCE SPECIFICATION

SPECIFICATION is JSON: `jobs` (name → script for sbatch), `pods` (name → manifest), `options` of
every sbatch, `rounds`, `talker` (a manifest whose container writes a line now and then) and
`lines` to follow of it. Prints JSON. All nodes of the lab have the clock of one machine. Pods are
created and deleted by requests of our own and seen at a watch, so that kubectl's start is in no
figure.
"""

import http.client
import json
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

PODS = "/api/v1/namespaces/{}/pods"
SECONDS = 60.0
"""For anything that is waited for; the machine may be busy."""
LOOK_SECONDS = 0.005
"""Between looks at a file; nothing tells a user's process on another node of a line in it."""
GONE_SECONDS = 0.05
"""Between two squeue; it takes 20 ms itself."""
PLANNED = "plan after "


class Proxy(http.client.HTTPConnection):
    """The API server by way of `kubectl proxy`, which has the user's certificate."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=600)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)

    def ask(self, method: str, path: str, body: object = None) -> http.client.HTTPResponse:
        text = None if body is None else json.dumps(body)
        self.request(method, path, text, {"Content-Type": "application/json"})
        answer = self.getresponse()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {answer.read().decode()}")
        return answer

    def do(self, method: str, path: str, body: object = None) -> Any:
        return json.loads(self.ask(method, path, body).read())


@contextmanager
def proxy() -> Iterator[Callable[[], Proxy]]:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/proxy"
        argv = ["kubectl", "proxy", f"--unix-socket={path}"]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as server:
            try:
                until(lambda: Path(path).exists(), what="kubectl proxy")
                yield lambda: Proxy(path)
            finally:
                server.terminate()


def until(ask: Callable[[], Any], *, what: str, pause: float = LOOK_SECONDS) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := ask()):
        if time.monotonic() > deadline:
            sys.exit(f"not within {SECONDS:.0f} s: {what}")
        time.sleep(pause)
    return found


def gone(job: str) -> bool:
    argv = ["squeue", "-h", "-j", job, "-o", "%i"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS)
    return not done.stdout.strip()


def wait_gone(job: str) -> float:
    until(lambda: gone(job), what=f"end of job {job}", pause=GONE_SECONDS)
    return time.time()


def run_job(script: str, options: list[str]) -> dict[str, float]:
    """Seconds after sbatch's start at which the script printed a word and a time."""
    with tempfile.NamedTemporaryFile("w", dir=Path.home(), suffix=".sh") as file:
        file.write(script)
        file.flush()
        output = Path(f"{file.name}.out")
        begin = time.time()
        argv = ["sbatch", "--parsable", "-o", str(output), *options, file.name]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode != 0:
            sys.exit(f"{' '.join(argv)}: {done.stderr}")
        submitted = time.time()
        wait_gone(done.stdout.strip())
        text = output.read_text()
        output.unlink()
    moments = [line.split() for line in text.splitlines() if line.startswith("at ")]
    if not moments:
        sys.exit(f"the job printed no time: {text}")
    found = {word: float(at) - begin for _, word, at in moments}
    return found | {"submitted": submitted - begin}


class Watch:
    """What a watch tells of pods, with the time at which it came."""

    def __init__(self, connect: Callable[[], Proxy], path: str) -> None:
        self._news: queue.SimpleQueue[tuple[float, str, Any]] = queue.SimpleQueue()
        version = connect().do("GET", path)["metadata"]["resourceVersion"]
        query = f"{path}?watch=1&allowWatchBookmarks=true&resourceVersion={version}"
        self._answer = connect().ask("GET", query)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._answer:
            at = time.time()
            event = json.loads(line)
            self._news.put((at, event["type"], event["object"]))

    def of(self, name: str) -> Iterator[tuple[float, str, Any]]:
        """News of one pod, as they come."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                at, kind, pod = self._news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                sys.exit(f"nothing more came of pod {name} within {SECONDS:.0f} s")
            if pod["metadata"].get("name") == name:
                yield at, kind, pod


def run_pod(
    manifest: dict[str, Any], *, connect: Callable[[], Proxy], watch: Watch, path: str, state: Path
) -> dict[str, float]:
    """Seconds after the request at which a pod came to each of its stages, and to its end."""
    name, api = manifest["metadata"]["name"], connect()
    news = watch.of(name)
    begin = time.time()
    api.do("POST", path, manifest)
    seen: dict[str, float] = {"created": time.time() - begin}
    for at, _, pod in news:
        job = (pod["metadata"].get("annotations") or {}).get("status.slurmlet.io/job-id", "")
        for stage, reached in (
            ("bound", pod["spec"].get("nodeName")),
            ("submitted", job),
            ("running", pod["status"]["phase"] == "Running"),
        ):
            if reached:
                seen.setdefault(stage, at - begin)
        if pod["status"]["phase"] in ("Failed", "Succeeded"):
            sys.exit(f"pod {name} ended: {pod['status']}")
        if "running" in seen:
            break
    log = state / "pods" / pod["metadata"]["uid"] / "main" / "0.log"
    line = until(lambda: log.exists() and log.read_text(), what=f"output of {name}")
    seen["line"] = moment(line.split()[0]) - begin
    seen |= supervisor(state / "boot" / f"{job}.boot", begin=begin)
    begin = time.time()
    api.do("DELETE", f"{path}/{name}")
    for at, kind, _ in news:
        if kind == "DELETED":
            seen["deleted"] = at - begin
            break
    seen["gone"] = wait_gone(job) - begin
    return seen


def supervisor(file: Path, *, begin: float) -> dict[str, float]:
    """What the supervisor says in its job's output: when it had the plan, and after what time."""
    text = until(lambda: (t := file.read_text()) and PLANNED in t and t, what=f"a plan in {file}")
    line = next(line for line in text.splitlines() if PLANNED in line)
    day, clock, *_ = line.split()
    at = datetime.fromisoformat(f"{day} {clock.replace(',', '.')}").timestamp()
    spent = float(line.partition(PLANNED)[2].split()[0])
    return {"exec": at - spent - begin, "planned": at - begin, "plan": spent}


def moment(text: str) -> float:
    """Seconds of an RFC 3339 time with nanoseconds, in UTC."""
    whole, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{rest or 0}")


def follow(name: str, lines: int) -> list[float]:
    """Seconds between a line's writing, by its time in the log, and its coming to `logs -f`."""
    argv = ["kubectl", "logs", "-f", "--timestamps", "--tail=1", name]
    late: list[float] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        for line in client.stdout:
            late.append(time.time() - moment(line.split()[0]))
            # The first was written before.
            if len(late) > lines:
                break
        client.terminate()
    return late[1:]


def main(given: Mapping[str, Any]) -> None:
    result: dict[str, Any] = {"jobs": {}, "pods": {}}
    path = PODS.format(given["namespace"])
    state = Path.home() / given["state"]
    with proxy() as connect:
        watch = Watch(connect, path)
        for number in range(given["rounds"] + 1):
            for name, script in given["jobs"].items():
                took = run_job(script, given["options"])
                if number:
                    result["jobs"].setdefault(name, []).append(took)
            for name, manifest in given["pods"].items():
                named = {**manifest["metadata"], "name": f"{manifest['metadata']['name']}-{number}"}
                made = {**manifest, "metadata": named}
                took = run_pod(made, connect=connect, watch=watch, path=path, state=state)
                # The first of each fills caches.
                if number:
                    result["pods"].setdefault(name, []).append(took)
    result["lines"] = follow(given["talker"], given["lines"])
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
