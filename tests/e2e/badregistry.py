"""A registry that misbehaves, on ctl: images of its own, made from one of the lab's registry."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.conftest import ROOT, Lab

ADDRESS = "registry.lab:5001"
USER, PASSWORD = "alice", "pull-secret-canary"
CUTS = 2
"""Times that a layer of `cut` breaks off in the middle."""
_SETTINGS = ".config/containers/registries.conf.d/badregistry.conf"

_PROGRAM = r"""
import base64, hashlib, http.server, json, os, sys, threading, urllib.request

job = json.loads(sys.stdin.readline())
ORIGIN = "http://127.0.0.1:5000/v2/e2e-test-images/busybox"
TYPE = "application/vnd.oci.image.manifest.v1+json"
NAMES = ("good", "cut", "lie", "rot", "private")
basic = "Basic " + base64.b64encode(job["pair"].encode()).decode()
left = job["cuts"]

def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()

def origin(path, accept="*/*"):
    request = urllib.request.Request(f"{ORIGIN}/{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read(), answer.headers.get("Content-Type")

types = TYPE + ",application/vnd.docker.distribution.manifest.v2+json"
manifest, kind = origin("manifests/1.37.0-1", types)
manifest = json.loads(manifest)
layers = {item["digest"]: origin("blobs/" + item["digest"])[0] for item in manifest["layers"]}
config = json.loads(origin("blobs/" + manifest["config"]["digest"])[0])
blobs, manifests = dict(layers), {}
for name in NAMES:
    # Another digest each time: nothing of it is in any cache.
    config.setdefault("config", {})["Labels"] = {"of": name, "nonce": os.urandom(8).hex()}
    data = json.dumps(config).encode()
    blobs[digest(data)] = data
    manifest["config"].update(digest=digest(data), size=len(data))
    manifests[name] = json.dumps(manifest).encode()
told = {name: digest(data) for name, data in manifests.items()}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global left
        words = self.path.split("/")
        if self.path == "/v2/":
            return self.give(401, b"{}", {"WWW-Authenticate": 'Basic realm="bad"'})
        name, what, key = words[2:5] if len(words) == 5 else ("", "", "")
        if name == "private" and self.headers.get("Authorization") != basic:
            return self.give(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "no"}]}')
        if what == "manifests" and name in manifests:
            # Whoever asks lie for a digest gets another manifest.
            data = manifests["good" if name == "lie" and ":" in key else name]
            return self.give(200, data, {"Content-Type": kind})
        data = blobs.get(key) if what == "blobs" else None
        if data is None:
            return self.give(404, b'{"errors": [{"code": "NAME_UNKNOWN", "message": "no"}]}')
        if name == "rot" and key in layers:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if name == "cut" and key in layers and left > 0:
            left -= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.give(200, data)

    do_HEAD = do_GET

    def give(self, status, data, headers={}):
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *words):
        pass

server = http.server.ThreadingHTTPServer(("10.77.0.1", 5001), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps(told), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRegistry:
    """`digests` of its images: `good`; `cut`, whose layer breaks off CUTS times; `lie`, which gives
    another manifest for a digest; `rot`, whose layer is not what its digest says; `private`."""

    digests: Mapping[str, str]

    def image(self, name: str) -> str:
        """By a tag that no earlier test's cache knows; the registry takes any."""
        return f"{ADDRESS}/{name}:{self.digests[name][-12:]}"


@contextmanager
def serving(lab: Lab) -> Iterator[BadRegistry]:
    """The registry, known to alice as one without TLS."""
    text = f'[[registry]]\nlocation = "{ADDRESS}"\ninsecure = true\n'
    script = f"mkdir -p $(dirname {_SETTINGS}) && cat > {_SETTINGS}"
    lab.run("ctl", ["sh", "-c", script], user="alice", input=text)
    argv = ["exec", "ctl", "--name", lab.name, "--", "python3", "-I", "-u", "-c", _PROGRAM]
    server = subprocess.Popen(
        [ROOT / "lab", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        server.stdin.write(json.dumps({"pair": f"{USER}:{PASSWORD}", "cuts": CUTS}) + "\n")
        server.stdin.flush()
        yield BadRegistry(digests=json.loads(server.stdout.readline()))
    finally:
        # The end of its input is its end.
        server.stdin.close()
        server.wait(timeout=20)
        server.stdout.close()
        lab.run("ctl", ["rm", "-f", _SETTINGS], user="alice", check=False)
