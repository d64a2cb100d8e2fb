"""Certificates and their CA are replaced while the webhook is at work."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.integration.webhook.conftest import Webhook
from tests.integration.webhook.site import (
    RELOADS,
    Site,
    ask,
    metric,
    pair,
    serving,
    trusting,
    wait_until,
)

from slurmlet.common.kube import Api, ApiError
from slurmlet.controlplane.run import ControlPlane

REQUESTS = 10_000
KEPT, FRESH = 6, 2
"""Clients that keep a connection for all of it, and that dial for each request."""
LOAD_SECONDS = 240


class Load:
    """Requests from many threads; `trust` is what the next fresh connection believes."""

    def __init__(self, site: Site) -> None:
        self.trust = trusting(site.ca)
        self.failed: list[str] = []
        self.served: set[str] = set()
        self._site = site
        self._answered = 0
        self._changed = threading.Condition()
        self._stop = threading.Event()

    def kept(self) -> None:
        with closing(self._site.connect(self.trust)) as connection:
            connection.connect()
            first = connection.sock
            while not self._stop.is_set():
                self._count(connection)
                if connection.sock is not first:
                    raise ConnectionError("a connection that was to be kept was closed")

    def fresh(self) -> None:
        while not self._stop.is_set():
            with closing(self._site.connect(self.trust)) as connection:
                connection.connect()
                assert isinstance(connection.sock, ssl.SSLSocket)
                serial = (connection.sock.getpeercert() or {})["serialNumber"]
                self._count(connection)
            self.served.add(str(serial))

    def wait_for(self, answered: int) -> None:
        """Until so many requests have been answered, or one failed."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: self.failed or self._answered >= answered, timeout=LOAD_SECONDS
            )
        assert not self.failed, self.failed
        assert done, f"{self._answered} requests in {LOAD_SECONDS} s"

    @contextmanager
    def running(self) -> Iterator[None]:
        work = [self.kept] * KEPT + [self.fresh] * FRESH
        threads = [threading.Thread(target=self._run, args=(each,), daemon=True) for each in work]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(30)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            with self._changed:
                self.failed.append(repr(error))
                self._changed.notify_all()

    def _count(self, connection: Any) -> None:
        answer = ask(connection)["response"]
        assert answer["allowed"] is True
        assert answer["patchType"] == "JSONPatch"
        with self._changed:
            self._answered += 1
            self._changed.notify_all()


def replace(site: Site, ca: trustme.CA) -> None:
    """A new certificate, and its key when the webhook has already met the half of the pair."""
    failures, successes = (metric(site, RELOADS.format(x)) for x in ("failure", "success"))
    chain, key = pair(ca)
    site.cert.write_bytes(chain)
    wait_until(lambda: metric(site, RELOADS.format("failure")) == failures + 1)
    site.key.write_bytes(key)
    wait_until(lambda: metric(site, RELOADS.format("success")) == successes + 1)


@pytest.mark.claim("W90")
@pytest.mark.claim("W99")
@pytest.mark.timeout(LOAD_SECONDS + 120)
def test_no_request_fails_while_certificates_and_their_ca_are_replaced(tmp_path: Path) -> None:
    site, log = Site(tmp_path), tmp_path / "log"
    site.issue()
    other = trustme.CA()
    with serving(site, log) as process:
        load = Load(site)
        with load.running():
            load.wait_for(REQUESTS // 5)
            replace(site, site.ca)
            load.wait_for(2 * REQUESTS // 5)
            load.trust = trusting(site.ca, other)
            replace(site, other)
            load.wait_for(3 * REQUESTS // 5)
            load.trust = trusting(other)
            load.wait_for(4 * REQUESTS // 5)
            replace(site, other)
            load.wait_for(REQUESTS)
        assert load.failed == []
        assert len(load.served) == 4, "the first certificate, and each that replaced it"
        memory = proportional(process.pid)
        print(f"memory after {REQUESTS} requests, in MiB: {memory}")
        assert sum(memory.values()) <= 80
    assert "Traceback" not in log.read_text()


def proportional(parent: int) -> dict[str, float]:
    """MiB of gunicorn's two processes, what they share counted once (Pss)."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    found = {}
    for name, pid in (("parent", parent), *(("worker", int(child)) for child in children)):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        (size,) = [line.split()[1] for line in lines if line.startswith("Pss:")]
        found[name] = round(int(size) / 1024, 1)
    return found


def service(name: str) -> dict[str, Any]:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    metadata = {"generateName": f"{name}-"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


async def create(api: Api) -> None:
    """Asks the API server, and it the webhook, without making anything."""
    made = await api.create("/api/v1/namespaces/alice/services?dryRun=All", service("web"))
    assert made["spec"]["clusterIP"] == "None"


@pytest.mark.claim("W97")
async def test_another_ca_in_three_steps_is_no_news_to_the_api_server(
    webhook: Webhook, control_plane: ControlPlane, tmp_path: Path
) -> None:
    """In the order of docs/admin-guide.md, Certificates and renewal."""
    other, old = trustme.CA(), (control_plane.config.pki_dir / "ca.crt").read_bytes()
    before = webhook.cert.read_bytes(), webhook.key.read_bytes()
    results: asyncio.Queue[str] = asyncio.Queue()
    stopped = asyncio.Event()

    async def load(api: Api) -> None:
        while not stopped.is_set():
            try:
                await create(api)
                await results.put("")
            except ApiError as error:
                await results.put(str(error))

    async def more() -> None:
        wanted = results.qsize() + 200
        async with asyncio.timeout(60):
            assert [await results.get() for _ in range(wanted)] == [""] * wanted

    async def trust(*cas: bytes) -> None:
        bundle = tmp_path / "bundle.crt"
        bundle.write_bytes(b"".join(cas))
        said = await asyncio.to_thread(webhook.bootstrap, "--ca-file", str(bundle))
        assert "caBundle" in said

    async with await Api.from_kubeconfig(str(control_plane.admin_conf)) as api:
        tasks = [asyncio.create_task(load(api)) for _ in range(4)]
        try:
            await more()
            await trust(old, other.cert_pem.bytes())
            await more()
            chain, key = pair(other)
            webhook.cert.write_bytes(chain)
            webhook.key.write_bytes(key)
            await asyncio.to_thread(
                wait_until, lambda: "changed, and served from now on" in webhook.log.read_text()
            )
            await more()
            await trust(other.cert_pem.bytes())
            await more()
            # One that it does not trust it would not take. (Of an earlier CA it still has
            # connections.)
            await trust(trustme.CA().cert_pem.bytes())
            async with asyncio.timeout(30):
                while not (error := await results.get()):
                    """The change takes a moment to reach it."""
            assert "certificate signed by unknown authority" in error
        finally:
            stopped.set()
            await asyncio.gather(*tasks)
            webhook.cert.write_bytes(before[0])
            webhook.key.write_bytes(before[1])
